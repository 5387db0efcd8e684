"""Fashion-MNIST: loaded, verified, split, normalised and batched.

    dataset = load()
    dataset.train.images    (55000, 28, 28, 1) float32 in [0, 1]
    dataset.train.labels    (55000,) int64, 0 to 9, named by fmnist.source.CLASS_NAMES

Paper: Xiao, Rasul, Vollgraf, "Fashion-MNIST", https://arxiv.org/abs/1708.07747
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from sklearn.model_selection import train_test_split

from fmnist import source
from fmnist.training.data_pruning import DataPruning

Augmentation = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


class Part(NamedTuple):
    """Images (N, 28, 28, 1), float32 in [0, 1], and labels (N,), int64."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """The parts of the data set, where its files were found, and the SHA-256 of their content."""

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
) -> Dataset:
    """Return the Dataset: a stratified split of the training images, and the test images.

    Args:
        data_dir: folder with the four files; None to find or fetch them.
        val_size: images held out for validation, or a fraction of the 60,000 if below 1.
        limit: number of training and validation images together; validation shrinks in proportion.
            The test set is always whole.
        seed: of the split.

    Raises:
        DataError: where the files are missing or damaged, or cannot be split so.
    """
    train_size, val_size = source.split_sizes(val_size, limit)
    (train_images, train_labels, test_images, test_labels), found_in = read(data_dir)
    train, validation = train_test_split(
        np.arange(len(train_labels)),
        train_size=train_size,
        test_size=val_size,
        stratify=train_labels,
        random_state=seed,
    )
    return Dataset(
        train=normalise(train_images[train], train_labels[train]),
        validation=normalise(train_images[validation], train_labels[validation]),
        test=normalise(test_images, test_labels),
        source=found_in,
        fingerprint=source.fingerprint(),
    )


def load_for_run(config: dict[str, Any], data_dir: str | Path | None = None) -> Dataset:
    """Return the Dataset that a run was trained on.

    Args:
        config: what config.json holds.
        data_dir: folder with the data; None for the run's own, if it is still there.
    """
    own = config["data_dir"]
    if data_dir is None and own and os.path.isdir(os.path.expanduser(own)):
        data_dir = own
    return load(data_dir, config["val_size"], config["limit"], config["seed"])


def read(data_dir: str | Path | None = None) -> tuple[list[np.ndarray], str]:
    """Return images and labels, of the training and the test set, and where they were found.

    All are uint8: images (N, 28, 28), labels (N,).

    Raises:
        DataError: where the files are missing or damaged.
    """
    contents, found_in = source.find(data_dir)
    arrays = [
        np.frombuffer(content, np.uint8).reshape(file.shape)
        for content, file in zip(contents, source.FILES.values(), strict=True)
    ]
    return arrays, found_in


def normalise(images: np.ndarray, labels: np.ndarray) -> Part:
    """Return images (N, 28, 28), uint8, as floats from 0 to 1, (N, 28, 28, 1), and their labels."""
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
        batch_size: images per batch; the last one may have less.
        shuffle: None for the given order, or a tensor of two integers (say, seed and epoch) that
            decides the order; a tf.Variable is read anew whenever iteration starts.
        augment: function of (images, seed, turns) that returns images, called for every batch with
            a seed made of `shuffle` and the batch's index, and for every image its index plus the
            epoch.
        pruning: chooses the images of an epoch, and their turns. The batches are then of (images,
            their indices), labels and weights.
    """
    images = tf.constant(part.images)
    labels = tf.one_hot(part.labels, len(source.CLASS_NAMES))
    count = pruning.size if pruning else len(part.labels)

    # Shuffling indices and gathering whole batches costs a fraction of shuffling images.
    def order(_: tf.Tensor) -> tf.data.Dataset:
        indices = tf.range(count)
        if shuffle is None:
            epoch = indices, indices
        else:
            indices = tf.random.experimental.stateless_shuffle(indices, shuffle)
            epoch = indices, indices + shuffle[1]
            if pruning:
                epoch = tuple(tf.gather(chosen, indices) for chosen in pruning.choose(shuffle[1]))
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
    # With autotune on, the end of every epoch waits for a sleeping thread, up to seconds.
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
