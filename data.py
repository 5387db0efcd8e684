"""Load, verify, split, normalise and batch Fashion-MNIST.

    dataset = load()
    dataset.train.images    (55000, 28, 28, 1) float32 in [0, 1]
    dataset.train.labels    (55000,) int64 in 0 to 9, indices of fmnist.source.CLASS_NAMES

Paper: Xiao, Rasul, Vollgraf, "Fashion-MNIST", https://arxiv.org/abs/1708.07747
"""

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from sklearn.model_selection import StratifiedKFold, train_test_split

from fmnist import source
from fmnist.training.data_pruning import DataPruning

Augmentation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


class Part(NamedTuple):
    """A part of the data set: images (N, 28, 28, 1), float32 in [0, 1], and labels (N,), int64."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """The data set.

    Attributes:
        train: training set.
        validation: validation set.
        test: test set.
        source: description of the place where the files were found.
        fingerprint: SHA-256 of the content of the files.
    """

    train: Part
    validation: Part
    test: Part
    source: str
    fingerprint: str


def load(
    data_dir: str | Path | None = None,
    val_size: float = 5000,
    limit: int | None = None,
    seed: int = 0,
    fold: int | None = None,
) -> Dataset:
    """Load Fashion-MNIST and split the 60,000 training images, stratified by class.

    Args:
        data_dir: folder with the four data files; None finds or downloads them.
        val_size: size of the validation set: a number of images, or a fraction of 60,000 below 1.
        limit: number of training and validation images together. The validation set shrinks in
            proportion; the test set stays complete.
        seed: random seed of the split.
        fold: fold of a cross-validation that is the validation set, from 0 to 60,000 / val_size
            - 1; None selects the validation set at random.

    Raises:
        DataError: the files are missing or corrupt, the sizes are impossible, or there is no such
            fold.
    """
    source.split_sizes(val_size, limit, fold)  # reject impossible values before a download
    (train_images, train_labels, test_images, test_labels), found_in = read(data_dir)
    train_indices, validation_indices = split_indices(train_labels, val_size, limit, seed, fold)
    return Dataset(
        train=normalise(train_images[train_indices], train_labels[train_indices]),
        validation=normalise(train_images[validation_indices], train_labels[validation_indices]),
        test=normalise(test_images, test_labels),
        source=found_in,
        fingerprint=source.fingerprint(),
    )


def split_indices(
    labels: np.ndarray,
    val_size: float = 5000,
    limit: int | None = None,
    seed: int = 0,
    fold: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the training and of the validation images, both in random order.

    Args:
        labels: labels of the training images, in the order of the file.
        val_size: see load().
        limit: see load().
        seed: see load().
        fold: see load().

    Raises:
        DataError: the sizes are impossible, or there is no such fold.
    """
    train_size, val_size = source.split_sizes(val_size, limit, fold)
    indices = np.arange(len(labels))
    if fold is None:
        train, validation = train_test_split(
            indices, train_size=train_size, test_size=val_size, stratify=labels, random_state=seed
        )
        return train, validation
    folds = StratifiedKFold(len(labels) // val_size, shuffle=True, random_state=seed)
    train, validation = next(itertools.islice(folds.split(indices, labels), fold, None))
    # A fold is a random selection, but its indices are in ascending order.
    rng = np.random.default_rng(seed)
    return rng.permutation(train), rng.permutation(validation)


def load_for_run(config: dict[str, Any], data_dir: str | Path | None = None) -> Dataset:
    """Load the data set with the split of a run.

    Args:
        config: content of the run's config.json.
        data_dir: see folder_for_run().
    """
    fold = config.get("fold")  # runs of earlier versions have no fold
    data_dir = folder_for_run(config, data_dir)
    return load(data_dir, config["val_size"], config["limit"], config["seed"], fold)


def folder_for_run(config: dict[str, Any], data_dir: str | Path | None = None) -> str | Path | None:
    """Return the folder with the data of a run; None to find or download them.

    Args:
        config: content of the run's config.json.
        data_dir: folder that the user named; None for the folder of the run, if it still exists.
    """
    run_data_dir = config["data_dir"]
    if data_dir is None and run_data_dir and os.path.isdir(os.path.expanduser(run_data_dir)):
        return run_data_dir
    return data_dir


def read(data_dir: str | Path | None = None) -> tuple[list[np.ndarray], str]:
    """Return the four arrays of the data set, and a description of where they were found.

    The arrays are training images (60000, 28, 28), training labels (60000,), test images
    (10000, 28, 28) and test labels (10000,), all uint8.

    Raises:
        DataError: the files are missing or corrupt.
    """
    contents, found_in = source.find(data_dir)
    arrays = [
        np.frombuffer(content, np.uint8).reshape(file.shape)
        for content, file in zip(contents, source.FILES.values(), strict=True)
    ]
    return arrays, found_in


def normalise(images: np.ndarray, labels: np.ndarray) -> Part:
    """Return images (N, 28, 28), uint8, scaled to [0, 1] with a channel axis, and their labels."""
    return Part(np.divide(images, 255, dtype=np.float32)[..., np.newaxis], labels.astype(np.int64))


def batches(
    part: Part,
    batch_size: int,
    shuffle: tf.Tensor | tf.Variable | None = None,
    augment: Augmentation | None = None,
    pruning: DataPruning | None = None,
) -> tf.data.Dataset:
    """Return a tf.data.Dataset of batches: images (B, 28, 28, 1) and one-hot labels (B, 10).

    Args:
        part: images and labels.
        batch_size: number of images per batch; the last batch may be smaller.
        shuffle: random seed of the order, a tensor of two integers, for example seed and epoch;
            None keeps the order. The value of a tf.Variable is read when an iteration starts.
        augment: function (images, seed, turns) that returns augmented images; needs `shuffle`. The
            seed is derived from `shuffle` and the index of the batch. `turns` is an integer per
            image, its index plus the epoch: even and odd values alternate from epoch to epoch.
        pruning: data pruning, which selects the images of each epoch. The batches are then
            (images, image indices), labels and sample weights.
    """
    images = tf.constant(part.images)
    labels = tf.one_hot(part.labels, len(source.CLASS_NAMES))
    count = pruning.size if pruning else len(part.labels)

    # Shuffling indices and gathering batches is much faster than shuffling images.
    def order(_: tf.Tensor) -> tf.data.Dataset:
        indices = tf.range(count)
        if shuffle is None:
            epoch = indices, indices
        else:
            indices = tf.random.experimental.stateless_shuffle(indices, shuffle)
            epoch = indices, indices + shuffle[1]
            if pruning:
                epoch = tuple(tf.gather(values, indices) for values in pruning.choose(shuffle[1]))
        return tf.data.Dataset.from_tensor_slices(epoch).batch(batch_size)

    def gather(batch_index: tf.Tensor, batch: tuple[tf.Tensor, ...]) -> tuple:
        indices, turns, *weights = batch
        batch_images = tf.gather(images, indices)
        if augment is not None:
            batch_images = augment(batch_images, tf.random.fold_in(shuffle, batch_index), turns)
        return (
            (batch_images, indices) if pruning else batch_images,
            tf.gather(labels, indices),
            *weights,
        )

    options = tf.data.Options()
    # With autotuning, the end of an epoch waits up to several seconds for a sleeping thread.
    options.autotune.enabled = False
    return (
        tf.data.Dataset.range(1)
        .flat_map(order)
        .enumerate()
        .map(gather)
        .apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))
        .prefetch(2)
        .with_options(options)
    )
