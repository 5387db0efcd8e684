"""Corruptions of test images, each with five severities, that measure the robustness of a network.

The set follows two benchmarks, with parameters for light items on black of 28 × 28 pixels:

- ImageNet-C: noise, blur, brightness, contrast, pixelation and JPEG. Hendrycks and Dietterich,
  "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
  https://arxiv.org/abs/1903.12261
- MNIST-C: translation, rotation, scale and shear. Mu and Gilmer, "MNIST-C: A Robustness Benchmark
  for Computer Vision", https://arxiv.org/abs/1906.02337

Occlusion is that of DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks
with Cutout", https://arxiv.org/abs/1708.04552. Inversion is the operation `Solarize` of Cubuk and
others, "AutoAugment", https://arxiv.org/abs/1805.09501; severity 5 inverts the whole image.

Weather is left out, because product pictures are taken indoors, and so is speckle noise, because it
resembles shot noise.

Common arguments of the functions of single corruptions:
    images: (N, 28, 28) in [0, 1].
    strength: the parameter of the severity, an element of Corruption.strengths.
    rng: random generator. Except for shot noise, its draws do not depend on the strength.

They return images of the same shape, whose values may be outside of [0, 1].
"""

import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

SEVERITIES = (1, 2, 3, 4, 5)
MOTION_DIRECTIONS = 8


class Corruption(NamedTuple):
    """A corruption.

    Attributes:
        label: name in tables and figures.
        description: what happens to an image, with the parameter of the severity ("this ...").
        strengths: values of the parameter for the severities 1 to 5.
        apply: function (images, strength, rng) that returns the corrupted images.
    """

    label: str
    description: str
    strengths: tuple[float, ...]
    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def corrupt(images: np.ndarray, name: str, severity: int, seed: int = 0) -> np.ndarray:
    """Return corrupted copies of images.

    The random draws, such as the direction of a shift, depend on the seed and the number of images
    only. Except for shot noise, they are therefore the same for all severities.

    Args:
        images: (N, 28, 28, 1), float32 in [0, 1], light items on black.
        name: name of the corruption, a key of CORRUPTIONS.
        severity: from 1 (mild) to 5 (hard).
        seed: random seed.

    Returns:
        Images (N, 28, 28, 1), float32 in [0, 1].

    Raises:
        ValueError: the name or the severity is unknown.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"unknown corruption {name!r}; choose from {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"the severity must be an integer from 1 to 5, not {severity!r}")
    corruption = CORRUPTIONS[name]
    corrupted = corruption.apply(
        images[..., 0], corruption.strengths[severity - 1], np.random.default_rng(seed)
    )
    return np.clip(corrupted, 0, 1, dtype=np.float32)[..., np.newaxis]


# Noise.


def gaussian_noise(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add normally distributed noise with this standard deviation."""
    from skimage.util import random_noise

    return random_noise(images, "gaussian", rng=rng, var=strength**2)


def shot_noise(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Replace the pixels by Poisson random numbers, with this mean for a white pixel."""
    return rng.poisson(images * strength) / strength


def impulse_noise(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Replace this fraction of the pixels by black or white."""
    from skimage.util import random_noise

    return random_noise(images, "s&p", rng=rng, amount=strength)


# Blur and loss of detail.


def gaussian_blur(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth with a Gaussian filter of this standard deviation in pixels."""
    return ndimage.gaussian_filter(images, strength, mode="constant", axes=(1, 2))


def motion_blur(images: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Average over a line of this length in pixels, in one of MOTION_DIRECTIONS directions."""
    line = np.zeros((strength, strength), np.float32)
    line[strength // 2] = 1

    def blur(images, turn):
        kernel = ndimage.rotate(line, 180 * turn / MOTION_DIRECTIONS, reshape=False, order=1)
        return ndimage.convolve(images, kernel[np.newaxis] / kernel.sum(), mode="constant")

    return in_groups(images, [partial(blur, turn=turn) for turn in range(MOTION_DIRECTIONS)], rng)


def pixelation(images: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Reduce the images to this height and width by local means, and enlarge them again."""
    from skimage.transform import resize_local_mean

    small = resize_local_mean(images, (len(images), strength, strength))
    return resize_local_mean(small, images.shape)


def jpeg(images: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Compress with JPEG of this quality."""

    def compress(image):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=strength)
        return np.asarray(Image.open(stream))

    return np.stack([compress(image) for image in np.uint8(images * 255 + 0.5)]) / 255


# Light.


def brightness(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add a constant to all pixels."""
    return images + strength


def contrast(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Move all pixels towards the mean of their image; the difference is multiplied by strength."""
    mean = images.mean(axis=(1, 2), keepdims=True)
    return mean + strength * (images - mean)


def inversion(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Invert the pixels that are at least as bright as this threshold."""
    return np.where(images >= strength, 1 - images, images)


# Geometry.


def shift(images: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Move the images by this number of pixels horizontally, vertically or both."""
    offsets = [(0, y, x) for y in (-strength, 0, strength) for x in (-strength, 0, strength)]
    offsets.remove((0, 0, 0))
    # Whole pixels need no interpolation.
    return in_groups(
        images, [partial(ndimage.shift, shift=offset, order=0) for offset in offsets], rng
    )


def rotation(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Rotate the images by this angle in degrees, clockwise or anticlockwise."""
    angle = math.radians(strength)
    cosine, sine = math.cos(angle), math.sin(angle)
    matrices = [[[cosine, sign * sine], [-sign * sine, cosine]] for sign in (-1, 1)]
    return in_groups(images, [partial(warp, matrix=matrix) for matrix in matrices], rng)


def scale(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink the images to this fraction of their height and width."""
    return warp(images, np.eye(2) / strength)


def shear(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Move every row sideways, by this fraction of its distance from the central row."""
    matrices = [[[1, 0], [sign * strength, 1]] for sign in (-1, 1)]
    return in_groups(images, [partial(warp, matrix=matrix) for matrix in matrices], rng)


def occlusion(images: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Erase a square with this side in pixels around a random position."""
    count, *size = images.shape
    centres = rng.uniform(0, size, (count, 2))[..., np.newaxis]
    rows, columns = np.moveaxis(abs(np.arange(size[0]) + 0.5 - centres) < strength / 2, 1, 0)
    return np.where(rows[:, :, np.newaxis] & columns[:, np.newaxis], 0, images)


def warp(images: np.ndarray, matrix: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the images under a linear transformation around their centres.

    Args:
        images: (N, 28, 28).
        matrix: (2, 2), maps positions (row, column) of the result to positions of the images.
    """
    centre = (np.array(images.shape[1:]) - 1) / 2
    stacked = np.eye(3)
    stacked[1:, 1:] = matrix
    offset = (0, *(centre - matrix @ centre))
    return ndimage.affine_transform(images, stacked, offset, order=1)


def in_groups(
    images: np.ndarray,
    variants: Sequence[Callable[[np.ndarray], np.ndarray]],
    rng: np.random.Generator,
) -> np.ndarray:
    """Return every image under one of several functions, chosen at random.

    A function of the group is much faster than one of every image.

    Args:
        images: (N, 28, 28).
        variants: functions of arrays of images.
        rng: random generator.
    """
    chosen = rng.integers(len(variants), size=len(images))
    changed = np.empty_like(images)
    for index, variant in enumerate(variants):
        changed[chosen == index] = variant(images[chosen == index])
    return changed


CORRUPTIONS = {
    "gaussian_noise": Corruption(
        "Gaussian noise",
        "normally distributed noise of this standard deviation",
        (0.06, 0.12, 0.18, 0.26, 0.38),
        gaussian_noise,
    ),
    "shot_noise": Corruption(
        "shot noise",
        "Poisson noise, with this number of photons for a white pixel",
        (60, 25, 12, 5, 3),
        shot_noise,
    ),
    "impulse_noise": Corruption(
        "impulse noise",
        "this fraction of the pixels replaced by black or white",
        (0.02, 0.05, 0.1, 0.18, 0.3),
        impulse_noise,
    ),
    "gaussian_blur": Corruption(
        "Gaussian blur",
        "Gaussian filter of this standard deviation in pixels",
        (0.5, 0.8, 1.1, 1.5, 2),
        gaussian_blur,
    ),
    "motion_blur": Corruption(
        "motion blur",
        "mean over a line of this length in pixels, in a random direction",
        (3, 5, 7, 9, 13),
        motion_blur,
    ),
    "pixelation": Corruption(
        "pixelation",
        "resolution reduced to this height and width in pixels",
        (20, 16, 12, 10, 8),
        pixelation,
    ),
    "jpeg": Corruption(
        "JPEG", "JPEG compression of this quality, from 0 to 100", (50, 25, 15, 8, 4), jpeg
    ),
    "brightness": Corruption(
        "brightness",
        "this constant added to all pixels",
        (0.1, 0.2, 0.3, 0.4, 0.5),
        brightness,
    ),
    "contrast": Corruption(
        "contrast",
        "contrast reduced to this fraction",
        (0.7, 0.5, 0.35, 0.25, 0.15),
        contrast,
    ),
    "inversion": Corruption(
        "inversion",
        "pixels of at least this brightness inverted; at 0, the whole image",
        (0.9, 0.8, 0.7, 0.35, 0),
        inversion,
    ),
    "shift": Corruption(
        "shift",
        "moved by this number of pixels, in a random direction",
        (1, 2, 3, 4, 6),
        shift,
    ),
    "rotation": Corruption(
        "rotation",
        "rotated by this angle in degrees, in a random direction",
        (8, 15, 22, 30, 40),
        rotation,
    ),
    "scale": Corruption(
        "scale",
        "height and width of the item reduced to this fraction",
        (0.9, 0.8, 0.7, 0.6, 0.5),
        scale,
    ),
    "shear": Corruption(
        "shear",
        "sheared horizontally by this slope, in a random direction",
        (0.1, 0.2, 0.3, 0.45, 0.6),
        shear,
    ),
    "occlusion": Corruption(
        "occlusion",
        "square of this side in pixels erased at a random position",
        (5, 8, 11, 14, 17),
        occlusion,
    ),
}
