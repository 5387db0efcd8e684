"""Train the segmentation network without masks made by hand.

The first masks assume a smooth background (fmnist/inference/photo.py). Many are wrong; a mask
counts as reliable if a trained classifier recognises the label in the cut-out. Composites of these
items train a network. It segments the photographs again, which gives more reliable masks for the
next round.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fmnist import cli
from fmnist.inference import photo
from fmnist.inference.classifier import Classifier
from fmnist.inference.labelled_photos import Labelled
from fmnist.inference.segmentation import SIDE
from fmnist.networks import MOMENTUM
from fmnist.source import CLASS_NAMES
from fmnist.training import composites

CHANNELS = 12, 24, 48, 64  # at 64, 32, 16 and 8 pixels
LEARNING_RATE, WEIGHT_DECAY = 4e-3, 1e-3
BATCH = 64
CLASS_FILTERS = 96  # of the convolutions that predict the class
CLASS_WEIGHT, SMOOTHING = 0.15, 0.1  # weight and label smoothing of the loss of the class
VIEWS = 0.3  # fraction of the training pictures that are whole photographs, not composites
RELIABLE = 0.7  # smallest probability of the label
LEAST_AREA, LARGEST_AREA = 0.05, 0.9  # of a reliable mask, as fractions of the picture
LEAST_ITEMS = 10


class SegmentationError(cli.UserError):
    """The segmentation network cannot be trained."""


def build_networks() -> tuple[keras.Model, keras.Model]:
    """Return the segmentation network, and the network to train, which also predicts the class.

    The first is a U-Net whose decoder has half as many layers as its encoder: pixels
    (N, SIDE, SIDE, 3) in [0, 1] to probabilities (N, SIDE, SIDE, 1). The second shares its layers.
    It learns from the labels of photographs without masks, too.
    """

    def block(features: Any, filters: int) -> Any:
        features = layers.Conv2D(filters, 3, padding="same", use_bias=False)(features)
        return layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(features))

    pixels = layers.Input((SIDE, SIDE, 3))
    features, skipped = layers.Rescaling(2.0, offset=-1.0)(pixels), []
    for filters in CHANNELS[:-1]:
        features = block(block(features, filters), filters)
        skipped.append(features)
        features = layers.MaxPooling2D()(features)
    features = deepest = block(block(features, CHANNELS[-1]), CHANNELS[-1])
    for filters, early in zip(CHANNELS[-2::-1], skipped[::-1], strict=True):
        features = layers.Concatenate()([layers.UpSampling2D()(features), early])
        features = block(features, filters)
    mask = layers.Conv2D(1, 1, activation="sigmoid")(features)
    small_mask = layers.AveragePooling2D(SIDE // deepest.shape[1])(mask)
    features = block(layers.Concatenate()([deepest, small_mask]), CLASS_FILTERS)
    features = block(layers.MaxPooling2D()(features), CLASS_FILTERS)
    features = layers.Dropout(0.4)(layers.Flatten()(features))
    label = layers.Dense(len(CLASS_NAMES), activation="softmax")(features)
    return keras.Model(pixels, mask), keras.Model(pixels, [mask, label])


def reliable_masks(
    pictures: Sequence[np.ndarray],
    labelled: Sequence[Labelled],
    classifier: Classifier,
    mask_of: Callable[[np.ndarray], np.ndarray | None],
) -> dict[int, np.ndarray]:
    """Return masks (height, width) bool by the index of the picture, as far as they are reliable.

    Shirts, pullovers, coats and T-shirts count as one class here, because their masks are alike.

    Args:
        pictures: (height, width, 3) uint8.
        labelled: the labels of the pictures.
        classifier: trained on Fashion-MNIST.
        mask_of: function of a picture that returns a mask, or None.
    """
    masks = {}
    for index, picture in enumerate(pictures):
        mask = mask_of(picture)
        if mask is not None and LEAST_AREA < mask.mean() < LARGEST_AREA:
            masks[index] = mask
    if not masks:
        return {}
    images = [photo.inverted(pictures[index], mask) for index, mask in masks.items()]
    probabilities = classifier.probabilities(np.stack(images))
    reliable = {}
    for (index, mask), row in zip(masks.items(), probabilities, strict=True):
        classes = set(labelled[index].classes)
        if classes & {*composites.TOPS} - {composites.DRESS}:
            classes |= {*composites.TOPS} - {composites.DRESS}
        if row[list(classes)].sum() > RELIABLE:
            reliable[index] = mask
    return reliable


def material(
    pictures: Sequence[np.ndarray],
    labelled: Sequence[Labelled],
    masks: dict[int, np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
) -> composites.Material:
    """Return the material of composites. Raises SegmentationError.

    Args:
        pictures: (height, width, 3) uint8.
        labelled: the labels of the pictures.
        masks: result of reliable_masks().
        images: images of Fashion-MNIST (N, 28, 28, 1) in [0, 1].
        labels: labels (N,) of the images.
    """
    if len(masks) < LEAST_ITEMS:
        raise SegmentationError(
            f"only {len(masks)} photographs have a reliable mask; at least {LEAST_ITEMS} with a "
            "plain background are needed"
        )
    items, strips = {}, []
    for index, mask in masks.items():
        strips += composites.strips_beside(pictures[index], mask)
        if len(labelled[index].classes) == 1:
            item = composites.cut_out(pictures[index], mask)
            items.setdefault(labelled[index].classes[0], []).append(item)
    if not strips:
        raise SegmentationError("no photograph shows background beside its item")
    pixels = (255 * images[..., 0]).round().astype(np.uint8)
    return composites.Material(items, composites.by_class(pixels, labels), strips)


class TrainingSet(NamedTuple):
    """Training pictures.

    Attributes:
        pixels: (N, SIDE, SIDE, 3) uint8.
        masks: (N, SIDE, SIDE) uint8.
        classes: 1 for the classes that the label stands for, else 0, (N, 10).
        mask_weights: 1 if the mask is known, else 0, (N,).
    """

    pixels: np.ndarray
    masks: np.ndarray
    classes: np.ndarray
    mask_weights: np.ndarray


def training_set(
    source: composites.Material,
    pictures: Sequence[np.ndarray],
    labelled: Sequence[Labelled],
    masks: dict[int, np.ndarray],
    count: int,
    rng: np.random.Generator,
) -> TrainingSet:
    """Return composites and views of photographs, of which all labels are equally frequent.

    Args:
        source: material of the composites.
        pictures: (height, width, 3) uint8.
        labelled: the labels of the pictures.
        masks: result of reliable_masks().
        count: number of training pictures.
        rng: random generator.
    """
    by_label = {}
    for index, picture in enumerate(labelled):
        by_label.setdefault(picture.classes, []).append(index)
    labels = list(by_label)
    result = TrainingSet(
        np.empty((count, SIDE, SIDE, 3), np.uint8),
        np.empty((count, SIDE, SIDE), np.uint8),
        np.zeros((count, len(CLASS_NAMES)), np.float32),
        np.ones(count, np.float32),
    )
    for row in range(count):
        if rng.random() < VIEWS:
            classes = labels[rng.integers(len(labels))]
            index = by_label[classes][rng.integers(len(by_label[classes]))]
            mask = masks.get(index)
            result.mask_weights[row] = mask is not None
            if mask is None:
                mask = np.zeros(pictures[index].shape[:2], bool)
            pixels, mask = composites.view(pictures[index], mask, rng)
        else:
            pixels, mask, label = composites.composite(source, rng)
            classes = (label,) if mask.any() else range(len(CLASS_NAMES))
        result.pixels[row], result.masks[row] = pixels, mask
        result.classes[row, list(classes)] = 1
    return result


def fit(network: keras.Model, pictures: TrainingSet, epochs: int, seed: int) -> None:
    """Train the second network of build_networks(). Every other epoch is mirrored."""
    steps = epochs * (len(pictures.pixels) // BATCH)
    warmup = steps // 5
    schedule = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE / 20, steps - warmup, warmup_target=LEARNING_RATE, warmup_steps=warmup
    )
    network.compile(
        keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY),
        [mask_loss, class_loss],
        loss_weights=[1, CLASS_WEIGHT],
        steps_per_execution=16,
    )
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        network.fit(
            batches(pictures, rng.permutation(len(pictures.pixels)), bool(epoch % 2)),
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            verbose=cli.verbosity(),
        )


def batches(pictures: TrainingSet, order: np.ndarray, mirrored: bool) -> tf.data.Dataset:
    """Return batches of pixels, targets and sample weights of both outputs.

    Args:
        pictures: training pictures (N).
        order: their indices (N), in the order of the batches.
        mirrored: whether the pictures are mirrored.
    """

    def batch(indices: tf.Tensor) -> tuple:
        pixels, masks = tf.gather(pixels_of_all, indices), tf.gather(masks_of_all, indices)
        if mirrored:
            pixels, masks = pixels[:, :, ::-1], masks[:, :, ::-1]
        targets = tf.cast(masks, tf.float32)[..., None] / 255, tf.gather(classes, indices)
        weights = tf.gather(mask_weights, indices), tf.ones_like(indices, tf.float32)
        return tf.cast(pixels, tf.float32) / 255, targets, weights

    pixels_of_all, masks_of_all, classes, mask_weights = map(tf.constant, pictures)
    options = tf.data.Options()
    options.autotune.enabled = False  # see data.batches()
    indices = tf.data.Dataset.from_tensor_slices(order).batch(BATCH, drop_remainder=True)
    return indices.map(batch).prefetch(2).with_options(options)


def mask_loss(masks: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Return the mean cross-entropy of the pixels of every picture (N,)."""
    losses = keras.losses.binary_crossentropy(masks, probabilities)
    return tf.reduce_mean(losses, axis=(1, 2))


def class_loss(classes: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Return the cross-entropy of the probability of all classes of the label (N,), smoothed."""
    label = -tf.math.log(tf.reduce_sum(classes * probabilities, axis=1) + 1e-7)
    uniform = -tf.reduce_mean(tf.math.log(probabilities + 1e-7), axis=1)
    return (1 - SMOOTHING) * label + SMOOTHING * uniform
