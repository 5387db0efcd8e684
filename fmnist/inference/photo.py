"""From a photograph to an image like those of Fashion-MNIST.

Such an image has 28 × 28 pixels; the object is light on black and fills the frame.
The data set was made from product pictures on white: trimmed, their longest edge made 28 pixels,
centred, negated and greyed (https://arxiv.org/abs/1708.07747, section 2), and each was stretched to
the full range of grey. Photographs are on any ground, which is estimated here, and the object is
what differs from it, by its colour or its brightness, whichever of both is the lighter.
"""

import functools
import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from fmnist import cli

FORMATS = ("JPEG", "PNG", "WEBP")
MOST_PIXELS = 25_000_000
WORKING = 160  # pixels of the longest edge that all is computed on
SIZE = 28
SHAPE = SIZE, SIZE, 1
WHITE = 255
STEP = 4  # the background is fitted to every fourth pixel of every fourth row
ROUNDS = 6  # of the fit: half a plane to the border, half a curved surface to all that is near
PLANE, QUADRATIC = 3, 6  # terms
NEAR = 0.06  # of full scale, that the ground may differ from the surface
LEAST_EXPLAINED = 0.7  # of the border
LEAST_CONTRAST = 0.1  # of full scale
LEAST_SIGNAL = 10  # times the noise
FAINTEST = 0.08  # of the object's contrast; the data set took 0.05 for ground
OUT_OF_NOISE = 4  # times the noise
MOST_PARTS = 2
SPECK = 0.2  # of the size of the largest part
DARKEST = 0.02  # ground that shadows are measured on


class PhotoError(cli.UserError):
    """A picture cannot be read."""


class Photo(NamedTuple):
    """A photograph and the image that was made of it.

    Attributes:
        picture: (height, width, 3) uint8, upright and reduced.
        image: (28, 28, 1) float32 in [0, 1], the model input.
        box: left, top, right and bottom of the object in the picture.
        doubts: texts, why the image may be wrong.
    """

    picture: np.ndarray
    image: np.ndarray
    box: tuple
    doubts: list


def read(source: str | Path | BinaryIO) -> Photo:
    """Return the Photo in a JPEG, PNG or WebP file. Raises PhotoError and OSError."""
    return convert(decode(source))


def decode(source: str | Path | BinaryIO) -> np.ndarray:
    """Return the picture as (height, width, 3) uint8, upright and no larger than needed.

    Raises PhotoError and OSError.
    """
    try:
        # Pillow warns of many pixels, where the limit here is stricter, and of damaged EXIF data,
        # which do no harm.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(source, formats=FORMATS) as picture,
        ):
            if picture.width * picture.height > MOST_PIXELS:
                raise PhotoError(f"it has more than {MOST_PIXELS // 1_000_000} megapixels")
            picture.draft(None, (WORKING, WORKING))  # a JPEG is decoded as small as that allows
            picture = ImageOps.exif_transpose(picture)
            return np.asarray(in_colour(picture))
    except Image.DecompressionBombError:
        raise PhotoError(f"it has more than {MOST_PIXELS // 1_000_000} megapixels") from None
    except UnidentifiedImageError:
        raise PhotoError(f"it is not one of {', '.join(FORMATS)}, or broken") from None
    except (PhotoError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:  # of the file system
            raise
        raise PhotoError(f"it is broken ({error})") from None
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise PhotoError(f"it is broken ({type(error).__name__})") from None


def in_colour(picture: Image.Image) -> Image.Image:
    """Return a picture of any mode, reduced, as RGB.

    What is transparent becomes white, or black under a light object.
    It is reduced as early as its mode allows, as much memory is needed before.
    """
    if picture.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) >> 8).astype(np.uint8))
    if not picture.has_transparency_data:
        return reduced(
            picture if picture.mode in ("L", "RGB", "CMYK") else picture.convert("RGB")
        ).convert("RGB")
    picture = reduced(picture.convert("RGBA"))
    opacity = np.asarray(picture.getchannel("A"), np.float32)
    light = (
        opacity.any() and np.average(np.asarray(picture.convert("L")), weights=opacity) > WHITE / 2
    )
    ground = Image.new("RGBA", picture.size, "black" if light else "white")
    return Image.alpha_composite(ground, picture).convert("RGB")


def reduced(picture: Image.Image) -> Image.Image:
    """Return a picture whose longest edge has at most WORKING pixels."""
    scale = max(picture.size) / WORKING
    if scale <= 1:
        return picture
    size = [max(1, round(length / scale)) for length in picture.size]
    return picture.resize(size, Image.Resampling.BOX)


def convert(picture: np.ndarray) -> Photo:
    """Return the Photo of a picture, (height, width, 3) uint8.

    One of 28 × 28 pixels is taken for an image that was cut out already: only its ground is made
    black.
    """
    pixels = picture.astype(np.float32) / WHITE
    rows, columns = slice(0, pixels.shape[0]), slice(0, pixels.shape[1])
    doubts = []
    if cut_out := pixels.shape[:2] == (SIZE, SIZE):
        border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
        colours, counts = np.unique(border, axis=0, return_counts=True)
        # What was cut out may fill most of the border, and the ground between is of one colour,
        # unless it is noisy.
        ground = (
            colours[counts.argmax()]
            if counts.max() >= len(border) / 8
            else np.median(border, axis=0)
        )
    else:
        ground, explained = smooth_ground(pixels)
        if explained < LEAST_EXPLAINED:
            doubts.append("the ground is cluttered, or the object is cut off")

    difference = pixels - ground
    distance = length(difference)
    noise, contrast = levels(distance, cut_out)
    if not doubts and contrast < max(LEAST_CONTRAST, LEAST_SIGNAL * noise):
        doubts.append("the object hardly differs from the ground")
    # A shadow takes a share of the light away, so what is darker than the ground is measured as a
    # share of it.
    if difference[distance >= contrast / 2].mean() < 0:
        distance = length(difference / np.maximum(ground, DARKEST))
        noise, contrast = levels(distance, cut_out)
    if not cut_out:
        seen, parts = main_parts(distance > max(FAINTEST * contrast, OUT_OF_NOISE * noise))
        if parts > MOST_PARTS and not doubts:
            doubts.append("there are several things in the picture")
        if parts:
            rows, columns = ndimage.find_objects(seen.astype(np.uint8))[0]
        distance = np.where(ndimage.binary_dilation(seen, iterations=2), distance, noise)
    image = fitted(np.maximum(distance - noise, 0)[rows, columns])
    return Photo(picture, image, (columns.start, rows.start, columns.stop, rows.stop), doubts)


def levels(distance: np.ndarray, cut_out: bool) -> tuple[float, float]:
    """Return how far the background is from itself, its noise, and how far the object is from it.

    An image that was cut out may have hardly any ground, and has no noise to speak of.
    """
    noise, contrast = np.quantile(distance, (0.25, 0.995))
    return 0 if cut_out else noise, contrast


def smooth_ground(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the background (height, width, 3), and the share of the border that it explains.

    It is a surface of second order in every channel, fitted to what is near it, at first on the
    border alone: so it may be lit from one side, and the object may touch the border with less than
    half of it.
    """
    few = pixels[::STEP, ::STEP]
    inside = np.zeros(few.shape[:2], bool)
    inside[1:-1, 1:-1] = True
    border, colours, terms = ~inside.ravel(), few.reshape(-1, 3), surface_terms(few.shape[:2])
    ground = np.broadcast_to(np.median(colours[border], axis=0), colours.shape)
    for round_ in range(ROUNDS):
        off = np.abs(colours - ground).max(axis=1)
        near, count = border & (off <= max(np.quantile(off[border], 0.6), NEAR / 3)), PLANE
        if round_ >= ROUNDS // 2:
            near, count = near | (off < NEAR), QUADRATIC
        weights = np.linalg.lstsq(terms[near, :count], colours[near], rcond=None)[0]
        ground = terms[:, :count] @ weights
    explained = np.mean(np.abs(colours - ground).max(axis=1)[border] < NEAR)
    return (surface_terms(pixels.shape[:2]) @ weights).reshape(pixels.shape), explained


@functools.lru_cache(maxsize=8)
def surface_terms(shape: tuple[int, int]) -> np.ndarray:
    """Return the terms (height * width, 6) of a surface of second order, those of a plane first."""
    y, x = (
        axis.ravel().astype(np.float32)
        for axis in np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    )
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def length(colours: np.ndarray) -> np.ndarray:
    """Return the root of the mean square of the three channels."""
    return np.sqrt(np.einsum("ijk,ijk->ij", colours, colours) / 3)


def main_parts(seen: np.ndarray) -> tuple[np.ndarray, int]:
    """Return a mask without parts much smaller than its largest one, and how many are left."""
    parts, _ = ndimage.label(seen)
    sizes = np.bincount(parts.ravel(), minlength=2)
    sizes[0] = 0
    kept = sizes > SPECK * sizes.max()
    return kept[parts], np.count_nonzero(kept)


def fitted(values: np.ndarray) -> np.ndarray:
    """Return values (height, width) as an image (28, 28, 1).

    The longest edge fills it, and the highest value is 1.
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
