"""Convert a photograph to model inputs: images like those of Fashion-MNIST.

Such an image has 28 × 28 pixels; the object is light on black and fills the frame. The data set
was made from product pictures on a white background: trimmed, scaled to 28 pixels on the longest
edge, centred, inverted and converted to greyscale (https://arxiv.org/abs/1708.07747, section 2),
and each image was stretched to the full range of grey values. A photograph may have any background.
Two methods cut out the object:
    - The background is a smooth surface that is estimated from the border; the object differs from
      it in colour or brightness. This is exact, but fails if the background is cluttered.
    - A segmentation network (segmentation.py) finds the object on any background.
If the background is plain, the first is enough. Otherwise, a network for whole photographs
(whole_photo.py) predicts the class, too.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from fmnist.inference.picture_file import WHITE, decode

SIZE = 28
SHAPE = SIZE, SIZE, 1
# The smooth background.
STEP = 4  # the background is fitted to every fourth pixel of every fourth row
ROUNDS = 6  # of the fit: the first half fits a plane to the border, the second half a quadratic
PLANE, QUADRATIC = 3, 6  # numbers of terms
NEAR = 0.06  # largest distance of a background pixel from the surface; full scale is 1
LEAST_EXPLAINED = 0.7  # fraction of the border
PLAIN = 0.95  # if more of the border is explained, the background is plain
LEAST_CONTRAST = 0.1  # full scale is 1
LEAST_SIGNAL = 10  # contrast of the object, as a multiple of the noise
FAINTEST = 0.08  # object threshold as a fraction of the contrast; the data set used 0.05
OUT_OF_NOISE = 4  # object threshold as a multiple of the noise
DARKEST = 0.02  # lower limit of the background when shadows are measured relative to it
# The segmentation network.
OBJECT = 0.5  # smallest probability of a pixel of the object
FADED = 0.2, 0.7  # pixels fade from black to their value between these probabilities
LEAST_AREA = 0.01  # of an object, as a fraction of the picture
LEAST_VALUE = 0.02  # of a pixel of the object; white would be as black as the background
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # weights of the channels
# Both.
MOST_PARTS = 2
MOST_ON_BORDER = 0.25  # fraction of the border that an item may cover
SPECK = 0.2  # parts below this fraction of the largest part are removed
NO_OBJECT = "no item was found; photograph one item on a plain background of another colour"
BEYOND_EDGE = "the item extends beyond the picture; photograph it with background on all sides"
SEVERAL_OBJECTS = "the picture shows several items; photograph a single one"
WHOLE = 0.0, 0.0, 1.0, 1.0


class WholePrediction(NamedTuple):
    """The prediction for a whole photograph.

    Attributes:
        probabilities: class probabilities (10,), not calibrated.
        is_novel: whether the photograph is unlike those of clothes, shoes and bags.
    """

    probabilities: np.ndarray
    is_novel: bool


Segment = Callable[[np.ndarray], np.ndarray]  # see segmentation.load()
ClassifyWhole = Callable[[np.ndarray], WholePrediction]  # see whole_photo.load()


class Photo(NamedTuple):
    """A photograph and the model inputs made from it.

    Attributes:
        picture: (height, width, 3) uint8, upright and reduced.
        images: (N, 28, 28, 1) float32 in [0, 1], the model inputs; none if no item was found. The
            last one belongs to the mask.
        mask: (height, width) bool, the item; None if none was found, and for a finished image.
        warnings: what may be wrong with the picture, and what to do.
        whole: prediction for the whole photograph; None without it.
        area: left, top, right and bottom of `picture` in the file, as fractions.
    """

    picture: np.ndarray
    images: np.ndarray
    mask: np.ndarray | None
    warnings: list[str]
    whole: WholePrediction | None = None
    area: tuple[float, float, float, float] = WHOLE


class CutOut(NamedTuple):
    """An item on a smooth background.

    Attributes:
        image: model input (28, 28, 1).
        mask: (height, width) bool, the item; may be empty.
        is_reliable: whether the background is smooth, and the item stands out from it.
        is_plain: whether, in addition, the surface explains more than PLAIN of the border.
    """

    image: np.ndarray
    mask: np.ndarray
    is_reliable: bool
    is_plain: bool


def read(
    source: str | Path | BinaryIO,
    segment: Segment,
    classify_whole: ClassifyWhole | None = None,
    area: tuple[float, float, float, float] = WHOLE,
) -> Photo:
    """Return the Photo in a picture file.

    Args:
        source: picture file.
        segment: result of segmentation.load().
        classify_whole: result of whole_photo.load(); None without its predictions.
        area: left, top, right and bottom of the part to convert, as fractions of the picture.

    Raises:
        PhotoError, OSError: see decode().
    """
    return convert(decode(source, area), segment, classify_whole)._replace(area=area)


def convert(
    picture: np.ndarray, segment: Segment, classify_whole: ClassifyWhole | None = None
) -> Photo:
    """Return the Photo of a picture (height, width, 3), uint8.

    Plain background: the smooth surface alone cuts out the item. Smooth background: the surface and
    the segmentation network do. Cluttered background: the segmentation network alone does. Unless
    the background is plain, the network for whole photographs predicts the class, too. A picture of
    28 × 28 pixels counts as cut out already: only its background is made black.

    Args:
        picture: (height, width, 3) uint8.
        segment: result of segmentation.load().
        classify_whole: result of whole_photo.load(); None without its predictions.
    """
    if is_finished(picture):
        return Photo(picture, finished(picture)[None], None, [])
    surface = on_smooth_background(picture)
    if surface.is_plain:
        return Photo(picture, surface.image[None], surface.mask, warnings_of(surface.mask))
    images, mask = ([surface.image], surface.mask) if surface.is_reliable else ([], None)
    probabilities = segment(picture)
    found = mask_from(probabilities)
    if found is not None:
        images.append(inverted(picture, found, probabilities))
        mask = found
    if not images:
        return Photo(picture, np.empty((0, *SHAPE), np.float32), None, [NO_OBJECT])
    whole = classify_whole(picture) if classify_whole else None
    return Photo(picture, np.stack(images), mask, warnings_of(mask), whole)


def combined(outputs: np.ndarray, whole: WholePrediction | None) -> np.ndarray:
    """Return the class probabilities (10,) of a Photo: the mean of all predictions.

    Args:
        outputs: predictions for its model inputs, (1 or 2, 10).
        whole: prediction for the whole photograph; None without it.
    """
    return np.mean(outputs if whole is None else [*outputs, whole.probabilities], axis=0)


def warnings_of(mask: np.ndarray) -> list[str]:
    """Return what the mask of an item shows to be wrong with the picture, and what to do."""
    warnings = []
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    if border.mean() > MOST_ON_BORDER:
        warnings.append(BEYOND_EDGE)
    if main_parts(mask)[1] > MOST_PARTS:
        warnings.append(SEVERAL_OBJECTS)
    return warnings


def is_finished(picture: np.ndarray) -> bool:
    """Return whether a picture has the size of the images of the data set."""
    return picture.shape[:2] == (SIZE, SIZE)


def finished(picture: np.ndarray) -> np.ndarray:
    """Return the model input (28, 28, 1) of a picture (28, 28, 3) that is cut out already."""
    pixels = picture.astype(np.float32) / WHITE
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    colours, counts = np.unique(border, axis=0, return_counts=True)
    # The item may fill most of the border. The rest of the border has a single colour, unless the
    # picture is noisy.
    background = (
        colours[counts.argmax()] if counts.max() >= len(border) / 8 else np.median(border, axis=0)
    )
    # The image may have hardly any background, so that its noise is unknown.
    return fitted(distance_from(background, pixels, without_noise)[0])


def on_smooth_background(picture: np.ndarray) -> CutOut:
    """Return the CutOut of a picture (height, width, 3), uint8."""
    pixels = picture.astype(np.float32) / WHITE
    background, explained = smooth_background(pixels)
    distance, noise, contrast, is_clear = distance_from(background, pixels, noise_and_contrast)
    mask, parts = main_parts(distance > max(FAINTEST * contrast, OUT_OF_NOISE * noise))
    rows, columns = slice(None), slice(None)
    if parts:
        rows, columns = ndimage.find_objects(mask.astype(np.uint8))[0]
    distance = np.where(ndimage.binary_dilation(mask, iterations=2), distance, noise)
    image = fitted(np.maximum(distance - noise, 0)[rows, columns])
    is_reliable = explained >= LEAST_EXPLAINED and is_clear and parts > 0
    return CutOut(image, mask, is_reliable, is_reliable and explained > PLAIN)


def distance_from(
    background: np.ndarray,
    pixels: np.ndarray,
    measure: Callable[[np.ndarray], tuple[float, float]],
) -> tuple[np.ndarray, float, float, bool]:
    """Return the distances of pixels from the background (height, width), and three more results.

    Args:
        background: (height, width, 3) in [0, 1], or one colour (3,).
        pixels: (height, width, 3) in [0, 1].
        measure: noise_and_contrast or without_noise.

    Returns:
        The distances, the noise of the background and the contrast of the object, as distances, and
        whether the contrast is large enough to tell the object from noise.
    """
    difference = pixels - background
    distance = length(difference)
    noise, contrast = measure(distance)
    is_clear = contrast >= max(LEAST_CONTRAST, LEAST_SIGNAL * noise)
    # A shadow removes a fraction of the light. Therefore the distance of a dark object is measured
    # relative to the background.
    if difference[distance >= contrast / 2].mean() < 0:
        distance = length(difference / np.maximum(background, DARKEST))
        noise, contrast = measure(distance)
    return distance, noise, contrast, bool(is_clear)


def noise_and_contrast(distance: np.ndarray) -> tuple[float, float]:
    """Return the noise of the background and the contrast of the object, as distances.

    At least a quarter of a photograph is background.
    """
    return tuple(np.quantile(distance, (0.25, 0.995)))


def without_noise(distance: np.ndarray) -> tuple[float, float]:
    """Return no noise, and the contrast of the object."""
    return 0, np.quantile(distance, 0.995)


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


def mask_from(probabilities: np.ndarray, least: float = OBJECT) -> np.ndarray | None:
    """Return the mask of the object (height, width) bool; None if it is too small.

    Args:
        probabilities: (height, width), the result of the segmentation network.
        least: smallest probability of a pixel of the object.
    """
    mask = main_parts(probabilities > least)[0]
    return ndimage.binary_fill_holes(mask) if mask.mean() > LEAST_AREA else None


def inverted(
    picture: np.ndarray, mask: np.ndarray, probabilities: np.ndarray | None = None
) -> np.ndarray:
    """Return the inverted luminance of an object as an image (28, 28, 1), black around the object.

    Args:
        picture: (height, width, 3) uint8.
        mask: (height, width) bool, not empty.
        probabilities: (height, width), by which the pixels fade; None for a hard edge.
    """
    rows, columns = ndimage.find_objects(mask.astype(np.uint8))[0]
    values = 1 - (picture[rows, columns] / np.float32(WHITE)) @ LUMINANCE
    mask = mask[rows, columns]
    if probabilities is not None:
        low, high = FADED
        values *= ((probabilities[rows, columns] - low) / (high - low)).clip(0, 1)
    return fitted(np.where(mask, np.maximum(values, LEAST_VALUE), 0))
