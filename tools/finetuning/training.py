"""Train a network further on photographs, mixed with Fashion-MNIST."""

import time
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import data
from fmnist import cli, networks
from fmnist.evaluation import metrics, tta
from fmnist.inference import calibration, photo
from fmnist.training import augmentation
from fmnist.training.outliers import outliers
from fmnist.training.photo_labels import CLASSES, balanced, loss, with_unknown
from tools.finetuning.dataset import Photographs

BATCH = 128
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.01
# Images per epoch.
FASHION = 8000  # of Fashion-MNIST
CHANGED = 0.6  # fraction of these that is made similar to photographs
REPETITIONS = 4  # of every photograph
RENDERED, OUTLIERS = 6000, 2500
CALIBRATION_OUTLIERS = 2000
UNCERTAIN = 0.5  # highest confidence in a class that is right for an outlier


class Sources(NamedTuple):
    """Where the training images come from.

    Attributes:
        images: training images of Fashion-MNIST (N, 28, 28, 1).
        labels: their labels (N,).
        rendered: images of Fashion-MNIST (M, 28, 28, 1), see dataset.rendered().
        rendered_labels: their labels (M,).
        photographs: photographs to train on.
    """

    images: np.ndarray
    labels: np.ndarray
    rendered: np.ndarray
    rendered_labels: np.ndarray
    photographs: Photographs


def unchanged(members: int) -> int:
    """Return how many members of an ensemble are not trained: the first half, rounded down."""
    return members // 2


def ensembles(start: keras.Model, again: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Return the networks to train as an ensemble, and together with those that stay as they are.

    The members counted by unchanged() stay as they are. A single network is trained beside itself.
    Without the unchanged members, the predictions for product pictures get worse. Averaging with
    the network from which the training started: Wortsman et al., https://arxiv.org/abs/2109.01903,
    there of the weights, here of the outputs.

    Args:
        start: network from which the training starts.
        again: the same network, loaded again.
    """
    members = networks.members_of(start)
    if len(members) == 1:
        members += networks.members_of(again)
    members = [
        keras.Sequential(member.layers, name=f"{start.name}_{index}")
        for index, member in enumerate(members)
    ]
    images = keras.Input(photo.SHAPE)
    outputs = [member(images) for member in members]
    trained = keras.Model(images, mean(outputs[unchanged(len(members)) :]))
    return trained, keras.Model(images, mean(outputs), name=start.name)


def mean(outputs: list) -> Any:
    """Return the mean of the outputs of networks; the output itself if there is only one."""
    return keras.layers.Average()(outputs) if len(outputs) > 1 else outputs[0]


def train(
    model: keras.Model,
    ensemble: keras.Model,
    sources: Sources,
    validation: Photographs,
    epochs: int,
    seed: int,
) -> list[dict[str, float]]:
    """Train a model and return its history, one row per epoch.

    Args:
        model: the first result of ensembles(); it is trained.
        ensemble: the second; it is validated.
        sources: training images.
        validation: held-out photographs.
        epochs: number of epochs.
        seed: random seed.
    """
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    size = FASHION + RENDERED + OUTLIERS + REPETITIONS * len(sources.photographs.images)
    steps = max(1, epochs * (size // BATCH))
    warmup = steps // 4
    schedule = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE / 10, steps - warmup, warmup_target=LEARNING_RATE, warmup_steps=warmup
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)
    model.compile(optimizer, loss, weighted_metrics=[accuracy], steps_per_execution=16)
    history = []
    for epoch in range(epochs):
        start = time.perf_counter()
        epoch_logs = model.fit(
            batches(*mixture(sources, rng)),
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            verbose=cli.verbosity(),
        ).history
        probabilities = predict(ensemble, validation)
        history.append(
            {
                "epoch": epoch + 1,
                "loss": epoch_logs["loss"][-1],
                "accuracy": epoch_logs["accuracy"][-1],
                "val_loss": metrics.cross_entropy(*as_binary(validation.targets, probabilities)),
                "val_accuracy": float(is_correct(validation.targets, probabilities).mean()),
                "learning_rate": float(optimizer.learning_rate),
                "seconds": time.perf_counter() - start,
            }
        )
        print(f"Accuracy on held-out photographs: {history[-1]['val_accuracy']:.1%}")
    return history


def mixture(
    sources: Sources, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the training images of an epoch in random order, with targets and sample weights.

    The targets (N, 11) are those of photo_labels.loss().
    """

    def changed(images: np.ndarray) -> np.ndarray:
        mirrored = np.where(rng.random((len(images), 1, 1, 1)) < 0.5, images[:, :, ::-1], images)
        seed = tf.constant(rng.integers(2**31, size=2), tf.int32)
        return augmentation.like_photo(tf.constant(mirrored, tf.float32), seed).numpy()

    chosen = rng.integers(len(sources.images), size=FASHION)
    fashion = sources.images[chosen]
    split = round(CHANGED * FASHION)
    half = split + (FASHION - split) // 2
    parts = [
        (changed(fashion[:split]), metrics.one_hot(sources.labels[chosen[:split]], CLASSES)),
        (fashion[split:half], metrics.one_hot(sources.labels[chosen[split:half]], CLASSES)),
        (fashion[half:, :, ::-1], metrics.one_hot(sources.labels[chosen[half:]], CLASSES)),
    ]
    if len(sources.rendered):
        chosen = rng.integers(len(sources.rendered), size=RENDERED)
        targets = metrics.one_hot(sources.rendered_labels[chosen], CLASSES)
        parts.append((changed(sources.rendered[chosen]), targets))
    photos = sources.photographs
    order = np.tile(np.arange(len(photos.images)), REPETITIONS)
    # The cut-outs that the network will classify are twice as frequent as the variants.
    views = [
        np.concatenate([photos.images[index], photos.images[index], photos.variants[index]])
        for index in order
    ]
    photo_images = np.stack([view[rng.integers(len(view))] for view in views])
    parts.append((changed(photo_images), with_unknown(photos.targets)[order]))
    others = outliers(sources.images, photos.strips, OUTLIERS, rng)
    parts.append((changed(others), np.zeros((OUTLIERS, CLASSES), np.float32)))

    images, targets = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    weights = np.ones(len(images), np.float32)
    start = len(images) - OUTLIERS - len(order)
    weights[start : start + len(order)] = balanced(photos.targets)[order]
    is_outlier = (targets == 0).all(axis=1, keepdims=True).astype(np.float32)
    targets = np.concatenate([targets, is_outlier], axis=1)
    order = rng.permutation(len(images))
    return images[order], targets[order], weights[order]


def batches(images: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tf.data.Dataset:
    """Return batches of images, targets and sample weights."""
    options = tf.data.Options()
    options.autotune.enabled = False  # see data.batches()
    dataset = tf.data.Dataset.from_tensor_slices((images, targets, weights))
    return dataset.batch(BATCH, drop_remainder=len(images) >= BATCH).with_options(options)


def accuracy(targets: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Return 1 for every correct prediction, else 0, (N,). For the targets, see mixture().

    The most probable class has to be one that the label stands for. The confidence in an outlier
    has to be low.
    """
    correct = tf.gather(targets[:, :CLASSES], tf.argmax(probabilities, axis=1), batch_dims=1)
    low = tf.cast(tf.reduce_max(probabilities, axis=1) < UNCERTAIN, tf.float32)
    return tf.where(targets[:, CLASSES] > 0, low, tf.maximum(correct, 0))


def predict(model: keras.Model, photographs: Photographs) -> np.ndarray:
    """Return the class probabilities (N, 10), not calibrated, as in classifier.Classifier."""
    outputs = predict_images(model, np.concatenate(photographs.images))
    counts = [len(views) for views in photographs.images]
    pairs = zip(np.split(outputs, np.cumsum(counts)[:-1]), photographs.whole, strict=True)
    return np.array([photo.combined(views, whole) for views, whole in pairs])


def predict_images(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the mean class probabilities (N, 10) of images and their mirror images."""
    views = tta.views(images, True, False)
    return np.mean([networks.predict(model, view) for view in views], axis=0)


def calibrated(
    model: keras.Model,
    fashion: data.Part,
    photographs: Photographs,
    before: calibration.Calibrations | None,
) -> calibration.Calibrations | None:
    """Return the calibrations of a model; None without enough photographs.

    Args:
        model: trained model.
        fashion: validation set of Fashion-MNIST.
        photographs: held-out photographs.
        before: calibrations of the network from which the training started, which are kept for
            photographs if there are too few.
    """
    is_other = np.array([whole is not None for whole in photographs.whole])
    probabilities = predict(model, photographs)
    other = calibration.fit(photographs.targets[is_other], probabilities[is_other])
    if other is None and before is None:
        return None
    rng = np.random.default_rng(0)
    things = outliers(fashion.images, photographs.strips, CALIBRATION_OUTLIERS, rng)
    plain = calibration.fit_to_outliers(
        fashion.labels, predict_images(model, fashion.images), predict_images(model, things)
    )
    return calibration.Calibrations(plain, other or before.other)


def is_correct(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return whether the most probable class is one that the label stands for, (N,) bool."""
    return np.take_along_axis(targets, probabilities.argmax(axis=1)[:, None], axis=1)[:, 0] > 0


def as_binary(targets: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (N,) of 0, and the probabilities (N, 2) of the labels and of all others."""
    right = (targets * probabilities).sum(axis=1)
    return np.zeros(len(right), int), np.stack([right, 1 - right], axis=1)
