"""Train a network further on photographs, mixed with Fashion-MNIST."""

import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from fmnist import cli, networks
from fmnist.evaluation import metrics, tta
from fmnist.inference import photo
from fmnist.source import CLASS_NAMES
from fmnist.training import augmentation
from fmnist.training.outliers import outliers
from tools.finetuning.dataset import Photographs, balanced

BATCH = 128
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.01
SMOOTHING = 0.05  # label smoothing
# Images per epoch.
FASHION = 8000  # of Fashion-MNIST
CHANGED = 0.6  # fraction of these that is made similar to photographs
REPETITIONS = 4  # of every photograph
RENDERED, OUTLIERS = 6000, 2500
CLASSES = len(CLASS_NAMES)
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


def train(
    model: keras.Model, sources: Sources, validation: Photographs, epochs: int, seed: int
) -> list[dict[str, float]]:
    """Train a model and return its history, one row per epoch.

    Args:
        model: a network that returns class probabilities.
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
        probabilities = predict(model, validation)
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

    The targets (N, 11) are 1 for the classes that a label stands for, and 1 in the last column for
    an outlier.
    """

    def changed(images: np.ndarray) -> np.ndarray:
        mirrored = np.where(rng.random((len(images), 1, 1, 1)) < 0.5, images[:, :, ::-1], images)
        seed = tf.constant(rng.integers(2**31, size=2), tf.int32)
        return augmentation.like_photo(tf.constant(mirrored, tf.float32), seed).numpy()

    def targets_of(labels: np.ndarray) -> np.ndarray:
        return metrics.one_hot(labels, CLASSES)

    chosen = rng.integers(len(sources.images), size=FASHION)
    fashion = sources.images[chosen]
    split = round(CHANGED * FASHION)
    half = split + (FASHION - split) // 2
    parts = [
        (changed(fashion[:split]), targets_of(sources.labels[chosen[:split]])),
        (fashion[split:half], targets_of(sources.labels[chosen[split:half]])),
        (fashion[half:, :, ::-1], targets_of(sources.labels[chosen[half:]])),
    ]
    if len(sources.rendered):
        chosen = rng.integers(len(sources.rendered), size=RENDERED)
        targets = targets_of(sources.rendered_labels[chosen])
        parts.append((changed(sources.rendered[chosen]), targets))
    photos = sources.photographs
    order = np.tile(np.arange(len(photos.images)), REPETITIONS)
    # The cut-outs that the network will classify are twice as frequent as the variants.
    views = [
        np.concatenate([photos.images[index], photos.images[index], photos.variants[index]])
        for index in order
    ]
    photo_images = np.stack([view[rng.integers(len(view))] for view in views])
    parts.append((changed(photo_images), photos.targets[order]))
    others = outliers(sources.images, photos.strips, OUTLIERS, rng)
    parts.append((changed(others), np.zeros((OUTLIERS, CLASSES), np.float32)))

    images, targets = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    weights = np.ones(len(images), np.float32)
    start = len(images) - OUTLIERS - len(order)
    weights[start : start + len(order)] = balanced(photos.targets)[order]
    is_outlier = (targets.sum(axis=1, keepdims=True) == 0).astype(np.float32)
    targets = np.concatenate([targets, is_outlier], axis=1)
    order = rng.permutation(len(images))
    return images[order], targets[order], weights[order]


def batches(images: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tf.data.Dataset:
    """Return batches of images, targets and sample weights."""
    options = tf.data.Options()
    options.autotune.enabled = False  # see data.batches()
    dataset = tf.data.Dataset.from_tensor_slices((images, targets, weights))
    return dataset.batch(BATCH, drop_remainder=len(images) >= BATCH).with_options(options)


def loss(targets: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Return the loss of every image (N,). For the targets, see mixture().

    It is the cross-entropy of the probability of all classes that the label stands for. For an
    outlier, it is the cross-entropy of the uniform distribution.
    """
    classes, is_outlier = targets[:, :CLASSES], targets[:, CLASSES]
    log_probabilities = tf.math.log(probabilities + 1e-7)
    uniform = -tf.reduce_mean(log_probabilities, axis=1)
    label = -tf.math.log(tf.reduce_sum(classes * probabilities, axis=1) + 1e-7)
    smoothing = tf.where(is_outlier > 0, 1.0, SMOOTHING)
    return (1 - smoothing) * label + smoothing * uniform


def accuracy(targets: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Return 1 for every correct prediction, else 0, (N,).

    The most probable class has to be one that the label stands for. The confidence in an outlier
    has to be low.
    """
    correct = tf.gather(targets[:, :CLASSES], tf.argmax(probabilities, axis=1), batch_dims=1)
    low = tf.cast(tf.reduce_max(probabilities, axis=1) < UNCERTAIN, tf.float32)
    return tf.where(targets[:, CLASSES] > 0, low, correct)


def predict(model: keras.Model, photographs: Photographs) -> np.ndarray:
    """Return the class probabilities (N, 10) as classifier.Classifier predicts them.

    They are the mean over the model inputs of a photograph and their mirror images.
    """
    images = np.concatenate(photographs.images)
    outputs = [networks.predict(model, view) for view in tta.views(images, True, False)]
    probabilities = np.mean(outputs, axis=0)
    counts = [len(views) for views in photographs.images]
    parts = np.split(probabilities, np.cumsum(counts)[:-1])
    return np.array([photo.combined(part) for part in parts])


def is_correct(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return whether the most probable class is one that the label stands for, (N,) bool."""
    return np.take_along_axis(targets, probabilities.argmax(axis=1)[:, None], axis=1)[:, 0] > 0


def as_binary(targets: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (N,) of 0, and the probabilities (N, 2) of the labels and of all others."""
    right = (targets * probabilities).sum(axis=1)
    return np.zeros(len(right), int), np.stack([right, 1 - right], axis=1)
