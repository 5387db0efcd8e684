"""The training images: photographs, and Fashion-MNIST as it would look in photographs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fmnist import cli
from fmnist.inference import photo
from fmnist.inference.labelled_photos import Labelled
from fmnist.progress import track
from fmnist.training import composites, photo_labels

OTHER_LIMITS = 0.25, 0.75  # smallest probabilities of a pixel of the item
RENDERED = 12_000  # images of Fashion-MNIST rendered as photographs


class FinetuneError(cli.UserError):
    """The photographs cannot be used for training."""


class Photographs(NamedTuple):
    """Photographs in which an item was found.

    Attributes:
        images: model inputs (1 or 2, 28, 28, 1) of every photograph (N).
        variants: other cut-outs of every photograph, tighter and wider, for training.
        whole: prediction for every whole photograph, see photo.Photo.
        targets: 1 for the classes that the label stands for, else 0, (N, 10).
        strips: pieces of the backgrounds, as RGB pictures.
    """

    images: list[np.ndarray]
    variants: list[np.ndarray]
    whole: list[photo.WholePrediction | None]
    targets: np.ndarray
    strips: list


def photographs(
    labelled: Sequence[Labelled],
    pictures: Sequence[np.ndarray],
    segment: photo.Segment,
    classify_whole: photo.ClassifyWhole | None = None,
) -> Photographs:
    """Return the photographs in which an item is found. Raises FinetuneError.

    Args:
        labelled: labels of the pictures.
        pictures: (height, width, 3) uint8.
        segment: result of segmentation.load().
        classify_whole: result of whole_photo.load(); None without its predictions.
    """
    images, variants, whole, kept, strips = [], [], [], [], []
    for label, picture in zip(labelled, track(pictures, "Cutting out the items"), strict=True):
        probabilities = segment(picture)
        converted = photo.convert(picture, lambda _, found=probabilities: found, classify_whole)
        if not len(converted.images):
            continue
        images.append(converted.images)
        variants.append(other_cut_outs(picture, probabilities))
        whole.append(converted.whole)
        kept.append((label, picture))
        if converted.mask is not None:
            strips += composites.strips_beside(picture, converted.mask)
    if not images:
        raise FinetuneError(f"no item was found in any of {len(pictures)} photographs")
    targets = photo_labels.targets_of(*zip(*kept, strict=True))
    return Photographs(images, variants, whole, targets, strips)


def other_cut_outs(picture: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the item (0 to 2, 28, 28, 1), cut out at other probabilities than photo.convert().

    Args:
        picture: (height, width, 3) uint8.
        probabilities: (height, width), the result of the segmentation network.
    """
    masks = [photo.mask_from(probabilities, limit) for limit in OTHER_LIMITS]
    found = [photo.inverted(picture, mask) for mask in masks if mask is not None]
    return np.array(found, np.float32).reshape(-1, *photo.SHAPE)


def rendered(
    images: np.ndarray,
    labels: np.ndarray,
    strips: list,
    segment: photo.Segment,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return images of Fashion-MNIST, pasted into photographs and cut out again.

    Those in which no item is found are left out.

    Args:
        images: images of Fashion-MNIST (N, 28, 28, 1) in [0, 1].
        labels: labels (N,) of the images.
        strips: pieces of backgrounds; may be empty.
        segment: result of segmentation.load().
        rng: random generator.

    Returns:
        Model inputs (RENDERED or fewer, 28, 28, 1), and their labels.
    """
    pixels = (255 * images[..., 0]).round().astype(np.uint8)
    material = composites.Material({}, composites.by_class(pixels, labels), strips)
    model_inputs, kept = [], []
    for _ in track(range(RENDERED), "Rendering Fashion-MNIST"):
        picture, _, label = composites.composite(material, rng)
        probabilities = segment(picture)
        mask = photo.mask_from(probabilities)
        if mask is not None:
            model_inputs.append(photo.inverted(picture, mask, probabilities))
            kept.append(label)
    return np.array(model_inputs), np.array(kept)
