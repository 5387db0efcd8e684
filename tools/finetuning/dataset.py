"""The training images: photographs, and Fashion-MNIST as it would look in photographs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fmnist import cli
from fmnist.inference import photo
from fmnist.inference.labelled_photos import Labelled
from fmnist.progress import track
from fmnist.source import CLASS_NAMES
from fmnist.training import composites
from tools.finetuning import shoes

HELD_OUT = 0.2  # fraction of the photographs that are the validation set
OTHER_LIMITS = 0.25, 0.75  # smallest probabilities of a pixel of the item
BALANCE = 0.75  # exponent of the number of photographs with a label, in their weight
RENDERED = 12_000  # images of Fashion-MNIST rendered as photographs


class FinetuneError(cli.UserError):
    """The photographs cannot be used for training."""


class Photographs(NamedTuple):
    """Photographs in which an item was found.

    Attributes:
        images: model inputs (1 or 2, 28, 28, 1) of every photograph (N).
        variants: other cut-outs of every photograph, tighter and wider, for training.
        targets: 1 for the classes that the label stands for, else 0, (N, 10).
        senders: who took the photograph (N).
        strips: pieces of the backgrounds, as RGB pictures.
    """

    images: list[np.ndarray]
    variants: list[np.ndarray]
    targets: np.ndarray
    senders: np.ndarray
    strips: list


def photographs(
    labelled: Sequence[Labelled], pictures: Sequence[np.ndarray], segment: photo.Segment
) -> Photographs:
    """Return the photographs in which an item is found. Raises FinetuneError.

    Args:
        labelled: labels of the pictures.
        pictures: (height, width, 3) uint8.
        segment: result of segmentation.load().
    """
    images, variants, targets, senders, strips = [], [], [], [], []
    for label, picture in zip(labelled, track(pictures, "Cutting out the items"), strict=True):
        probabilities = segment(picture)
        converted = photo.convert(picture, lambda _, found=probabilities: found)
        if not len(converted.images):
            continue
        images.append(converted.images)
        variants.append(other_cut_outs(picture, probabilities))
        classes = shoes.with_kind(label, picture).classes
        targets.append(np.isin(np.arange(len(CLASS_NAMES)), classes))
        senders.append(label.sender)
        if converted.mask is not None:
            strips += composites.strips_beside(picture, converted.mask)
    if not images:
        raise FinetuneError("no item was found in any of the photographs")
    return Photographs(images, variants, np.array(targets, np.float32), np.array(senders), strips)


def other_cut_outs(picture: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the item (0 to 2, 28, 28, 1), cut out at other probabilities than photo.convert().

    Args:
        picture: (height, width, 3) uint8.
        probabilities: (height, width), the result of the segmentation network.
    """
    masks = [photo.mask_from(probabilities, limit) for limit in OTHER_LIMITS]
    found = [photo.inverted(picture, mask) for mask in masks if mask is not None]
    return np.array(found, np.float32).reshape(-1, *photo.SHAPE)


def held_out(senders: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return whether each photograph is in the validation set, (N,) bool.

    All photographs of a sender are on the same side. Senders are chosen at random; a sender whose
    photographs would make the validation set larger than HELD_OUT is passed over. The seed is not
    that of the training, so that networks trained with several seeds can be averaged.

    Raises:
        FinetuneError: there are too few photographs or senders.
    """
    names, counts = np.unique(senders, return_counts=True)
    wanted, chosen, total = HELD_OUT * len(senders), [], 0
    for index in np.random.default_rng(seed).permutation(len(names)):
        if total + counts[index] <= wanted:
            chosen.append(names[index])
            total += counts[index]
    if not chosen:
        raise FinetuneError(
            f"{len(senders)} photographs of {len(names)} senders are too few to hold out a fifth "
            "for validation"
        )
    return np.isin(senders, chosen)


def part(photographs: Photographs, chosen: np.ndarray) -> Photographs:
    """Return the chosen photographs, (N,) bool, with the backgrounds of all."""
    indices = np.flatnonzero(chosen)
    return Photographs(
        [photographs.images[index] for index in indices],
        [photographs.variants[index] for index in indices],
        photographs.targets[chosen],
        photographs.senders[chosen],
        photographs.strips,
    )


def balanced(targets: np.ndarray) -> np.ndarray:
    """Return sample weights (N,) with mean 1, so that rare labels count more.

    The weight is a power of the number of photographs with the label, see BALANCE.
    """
    _, label, counts = np.unique(targets, axis=0, return_inverse=True, return_counts=True)
    weights = counts[label] ** -BALANCE
    return (weights / weights.mean()).astype(np.float32)


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
