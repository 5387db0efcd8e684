"""Train the segmentation network without masks made by hand.

The first masks assume a smooth background (fmnist/inference/photo.py). Many are wrong; a mask
counts as reliable if a trained classifier recognises the label in the cut-out. Composites of these
items train a network. It segments the photographs again, which gives more reliable masks for the
next round.
"""

from collections.abc import Callable, Sequence
from typing import Any

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
from fmnist.training import composites

CHANNELS = 12, 24, 48, 64  # at 64, 32, 16 and 8 pixels
LEARNING_RATE, WEIGHT_DECAY = 4e-3, 1e-3
BATCH = 64
VIEWS = 0.15  # fraction of the training pictures that are whole photographs, not composites
RELIABLE = 0.7  # smallest probability of the label
LEAST_AREA, LARGEST_AREA = 0.05, 0.9  # of a reliable mask, as fractions of the picture
LEAST_ITEMS = 10


class SegmentationError(cli.UserError):
    """The segmentation network cannot be trained."""


def build_network() -> keras.Model:
    """Return the network: pixels (N, SIDE, SIDE, 3) in [0, 1] to probabilities (N, SIDE, SIDE, 1).

    A U-Net whose decoder has half as many layers as its encoder.
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
    features = block(block(features, CHANNELS[-1]), CHANNELS[-1])
    for filters, early in zip(CHANNELS[-2::-1], skipped[::-1], strict=True):
        features = layers.Concatenate()([layers.UpSampling2D()(features), early])
        features = block(features, filters)
    return keras.Model(pixels, layers.Conv2D(1, 1, activation="sigmoid")(features))


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


def training_set(
    source: composites.Material,
    views: Sequence[tuple[np.ndarray, np.ndarray]],
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (N, SIDE, SIDE, 3) and masks (N, SIDE, SIDE), both uint8.

    Args:
        source: material of the composites.
        views: photographs and their reliable masks.
        count: number N of pictures.
        rng: random generator.
    """
    pixels = np.empty((count, SIDE, SIDE, 3), np.uint8)
    masks = np.empty((count, SIDE, SIDE), np.uint8)
    for index in range(count):
        if rng.random() < VIEWS:
            picture, mask = views[rng.integers(len(views))]
            pixels[index], masks[index] = composites.view(picture, mask, rng)
        else:
            pixels[index], masks[index], _ = composites.composite(source, rng)
    return pixels, masks


def fit(
    network: keras.Model, pixels: np.ndarray, masks: np.ndarray, epochs: int, seed: int
) -> None:
    """Train a network on pictures and masks, see training_set()."""
    steps = epochs * (len(pixels) // BATCH)
    warmup = steps // 5
    schedule = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE / 20, steps - warmup, warmup_target=LEARNING_RATE, warmup_steps=warmup
    )
    network.compile(
        keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY),
        "binary_crossentropy",
        steps_per_execution=16,
    )
    options = tf.data.Options()
    options.autotune.enabled = False  # at the end of an epoch it would stall
    options.experimental_optimization.map_parallelization = False
    batches = (
        tf.data.Dataset.from_tensor_slices((pixels, masks[..., None]))
        .shuffle(len(pixels), seed)
        .batch(BATCH, drop_remainder=True)
        .map(lambda x, y: (tf.cast(x, tf.float32) / 255, tf.cast(y, tf.float32) / 255))
        .prefetch(2)
        .with_options(options)
    )
    network.fit(batches, epochs=epochs, shuffle=False, verbose=cli.verbosity())
