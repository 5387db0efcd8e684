"""Convert a photograph to a model input: an image like those of Fashion-MNIST.

Such an image has 28 × 28 pixels; the object is light on black and fills the frame. The data set
was made from product pictures on a white background: trimmed, scaled to 28 pixels on the longest
edge, centred, inverted and converted to greyscale (https://arxiv.org/abs/1708.07747, section 2),
and each image was stretched to the full range of grey values. A photograph may have any background.
This module estimates the background and cuts out the object, which differs from it in colour or
brightness.
"""

import functools
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from fmnist.inference.picture_file import WHITE, decode

SIZE = 28
SHAPE = SIZE, SIZE, 1
STEP = 4  # the background is fitted to every fourth pixel of every fourth row
ROUNDS = 6  # of the fit: the first half fits a plane to the border, the second half a quadratic
PLANE, QUADRATIC = 3, 6  # numbers of terms
NEAR = 0.06  # largest distance of a background pixel from the surface; full scale is 1
LEAST_EXPLAINED = 0.7  # fraction of the border
LEAST_CONTRAST = 0.1  # full scale is 1
LEAST_SIGNAL = 10  # contrast of the object, as a multiple of the noise
FAINTEST = 0.08  # object threshold as a fraction of the contrast; the data set used 0.05
OUT_OF_NOISE = 4  # object threshold as a multiple of the noise
MOST_PARTS = 2
SPECK = 0.2  # parts below this fraction of the largest part are removed
DARKEST = 0.02  # lower limit of the background when shadows are measured relative to it
CLUTTERED = "the background is cluttered, or the object touches the edge"
LOW_CONTRAST = "low contrast between the object and the background"
SEVERAL_OBJECTS = "the picture shows several objects"


class Photo(NamedTuple):
    """A photograph and the model input made from it.

    Attributes:
        picture: (height, width, 3) uint8, upright and reduced.
        image: (28, 28, 1) float32 in [0, 1], the model input.
        box: left, top, right and bottom of the object in the picture.
        warnings: reasons why the model input may be wrong.
    """

    picture: np.ndarray
    image: np.ndarray
    box: tuple
    warnings: list


def read(source: str | Path | BinaryIO) -> Photo:
    """Return the Photo in a picture file. Raises: see decode()."""
    return convert(decode(source))


def convert(picture: np.ndarray) -> Photo:
    """Return the Photo of a picture (height, width, 3), uint8.

    A picture of 28 × 28 pixels counts as cut out already: only its background is made black.
    """
    pixels = picture.astype(np.float32) / WHITE
    rows, columns = slice(0, pixels.shape[0]), slice(0, pixels.shape[1])
    warnings_found = []
    if cut_out := pixels.shape[:2] == (SIZE, SIZE):
        border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
        colours, counts = np.unique(border, axis=0, return_counts=True)
        # The object may fill most of the border. The rest of the border has a single colour, unless
        # the picture is noisy.
        background = (
            colours[counts.argmax()]
            if counts.max() >= len(border) / 8
            else np.median(border, axis=0)
        )
    else:
        background, explained = smooth_background(pixels)
        if explained < LEAST_EXPLAINED:
            warnings_found.append(CLUTTERED)

    difference = pixels - background
    distance = length(difference)
    noise, contrast = levels(distance, cut_out)
    if not warnings_found and contrast < max(LEAST_CONTRAST, LEAST_SIGNAL * noise):
        warnings_found.append(LOW_CONTRAST)
    # A shadow removes a fraction of the light. Therefore the distance of a dark object is measured
    # relative to the background.
    if difference[distance >= contrast / 2].mean() < 0:
        distance = length(difference / np.maximum(background, DARKEST))
        noise, contrast = levels(distance, cut_out)
    if not cut_out:
        mask, parts = main_parts(distance > max(FAINTEST * contrast, OUT_OF_NOISE * noise))
        if parts > MOST_PARTS and not warnings_found:
            warnings_found.append(SEVERAL_OBJECTS)
        if parts:
            rows, columns = ndimage.find_objects(mask.astype(np.uint8))[0]
        distance = np.where(ndimage.binary_dilation(mask, iterations=2), distance, noise)
    image = fitted(np.maximum(distance - noise, 0)[rows, columns])
    box = columns.start, rows.start, columns.stop, rows.stop
    return Photo(picture, image, box, warnings_found)


def levels(distance: np.ndarray, cut_out: bool) -> tuple[float, float]:
    """Return the noise of the background and the contrast of the object, as distances.

    An image that was cut out may have hardly any background; its noise counts as 0.
    """
    noise, contrast = np.quantile(distance, (0.25, 0.995))
    return 0 if cut_out else noise, contrast


def smooth_background(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the background (height, width, 3), and the fraction of the border that it explains.

    The background is a quadratic surface in every channel. It is fitted to the pixels near it, at
    first on the border only. Therefore the light may come from one side, and the object may cover
    less than half of the border.
    """
    sample = pixels[::STEP, ::STEP]
    inside = np.zeros(sample.shape[:2], bool)
    inside[1:-1, 1:-1] = True
    border, colours, terms = ~inside.ravel(), sample.reshape(-1, 3), surface_terms(sample.shape[:2])
    background = np.broadcast_to(np.median(colours[border], axis=0), colours.shape)
    for round_ in range(ROUNDS):
        error = np.abs(colours - background).max(axis=1)
        near, count = border & (error <= max(np.quantile(error[border], 0.6), NEAR / 3)), PLANE
        if round_ >= ROUNDS // 2:
            near, count = near | (error < NEAR), QUADRATIC
        weights = np.linalg.lstsq(terms[near, :count], colours[near], rcond=None)[0]
        background = terms[:, :count] @ weights
    explained = np.mean(np.abs(colours - background).max(axis=1)[border] < NEAR)
    return (surface_terms(pixels.shape[:2]) @ weights).reshape(pixels.shape), explained


@functools.lru_cache(maxsize=8)
def surface_terms(shape: tuple[int, int]) -> np.ndarray:
    """Return the terms (height * width, 6) of a quadratic surface, those of a plane first."""
    y, x = (
        axis.ravel().astype(np.float32)
        for axis in np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    )
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def length(colours: np.ndarray) -> np.ndarray:
    """Return the root mean square over the three channels."""
    return np.sqrt(np.einsum("ijk,ijk->ij", colours, colours) / 3)


def main_parts(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Return a mask without the parts much smaller than the largest, and the number of parts."""
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel(), minlength=2)
    sizes[0] = 0
    kept = sizes > SPECK * sizes.max()
    return kept[parts], np.count_nonzero(kept)


def fitted(values: np.ndarray) -> np.ndarray:
    """Return values (height, width) as an image (28, 28, 1).

    The longest edge fills the image, and the highest value is 1.
    """
    scale = SIZE / max(values.shape)
    height, width = (max(1, round(n * scale)) for n in values.shape)
    small = np.asarray(
        Image.fromarray(values).resize((width, height), Image.Resampling.LANCZOS)
    ).clip(0, None)
    image = np.zeros(SHAPE, np.float32)
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    image[top : top + height, left : left + width, 0] = small / max(small.max(), 1e-6)
    return image
