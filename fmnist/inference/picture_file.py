"""Read picture files: formats, limits, orientation, transparency and unusual pixel formats."""

import contextlib
import functools
import math
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fmnist import cli

# Names in Pillow. EPS, PDF and other formats that run programs or contain them are left out.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF")
HEIF = "HEIF"  # the format of HEIC files, which Pillow reads with the package pillow-heif
NOT_A_PICTURE = "not a JPEG, PNG, WebP, AVIF, BMP, TIFF or GIF file, or corrupt"
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
HEIC_FILE = "a HEIC file; export it as JPEG, or install the Python package pillow-heif"
# A JPEG file whose only scan has all colours is decoded strip by strip, at a fraction of its size.
# All other pictures have to be decoded as a whole.
MOST_PIXELS, MOST_PIXELS_IN_STRIPS = 25_000_000, 120_000_000
TOO_LARGE = "the picture has more than {} megapixels"
WORKING = 160  # longest edge, in pixels, of the reduced picture
WHITE = 255
# Markers of a JPEG file: frame of Huffman coding without progressive scans, start of a scan.
SEQUENTIAL_FRAMES, START_OF_SCAN = (0xC0, 0xC1), 0xDA
# Sequential frames, Huffman tables, start of a scan, other tables, application data and comments.
# Before a scan, a file that is decoded in strips needs no others.
MARKERS_WITH_LENGTH = {0xC0, 0xC1, 0xC4, *range(0xDA, 0xDE), *range(0xE0, 0xF0), 0xFE}


class PhotoError(cli.UserError):
    """A picture that cannot be read."""


def decode(
    source: str | Path | BinaryIO, area: tuple[float, float, float, float] = (0, 0, 1, 1)
) -> np.ndarray:
    """Return the picture as (height, width, 3) uint8, upright and no larger than needed.

    Of an animation, the first frame is returned.

    Args:
        source: picture file.
        area: left, top, right and bottom of the part to return, as fractions of the upright
            picture.

    Raises:
        PhotoError: the file is corrupt, too large, or not a picture.
        OSError: the file cannot be read.
    """
    try:
        # Pillow warns of large pictures, for which the limit here is stricter, and of corrupt EXIF
        # data, which are harmless.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(source, formats=formats()) as picture,
        ):
            most = MOST_PIXELS_IN_STRIPS if is_decoded_in_strips(picture) else MOST_PIXELS
            if picture.width * picture.height > most:
                raise PhotoError(TOO_LARGE.format(most // 1_000_000))
            left, top, right, bottom = area
            needed = math.ceil(WORKING / min(right - left, bottom - top))
            picture.draft(None, (needed, needed))  # a JPEG is decoded as small as that allows
            picture = ImageOps.exif_transpose(picture)
            if tuple(area) != (0, 0, 1, 1):
                picture = part(picture, area)
            return np.asarray(in_colour(picture))
    except Image.DecompressionBombError:
        raise PhotoError(TOO_LARGE.format(MOST_PIXELS_IN_STRIPS // 1_000_000)) from None
    except UnidentifiedImageError:
        raise PhotoError(HEIC_FILE if is_heic(source) else NOT_A_PICTURE) from None
    except (PhotoError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:  # an error of the file system
            raise
        raise PhotoError(f"the picture is corrupt ({error})") from None
    except Exception as error:  # a corrupt file raises many kinds
        raise PhotoError(f"the picture is corrupt ({type(error).__name__})") from None


def part(picture: Image.Image, area: tuple[float, float, float, float]) -> Image.Image:
    """Return a part of a picture, at least one pixel large. For the area, see decode()."""
    left, right = (round(edge * picture.width) for edge in area[::2])
    top, bottom = (round(edge * picture.height) for edge in area[1::2])
    left, top = min(left, picture.width - 1), min(top, picture.height - 1)
    return picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


@functools.cache
def formats() -> tuple[str, ...]:
    """Return the formats that can be read, with HEIF if pillow-heif is installed."""
    Image.init()
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in (*FORMATS, HEIF) if name in Image.OPEN)


def is_heic(source: str | Path | BinaryIO) -> bool:
    """Return whether a file is a HEIC file, whatever its name."""
    if isinstance(source, (str, Path)):
        with open(source, "rb") as stream:
            return is_heic(stream)
    source.seek(0)
    header = source.read(12)
    return header[4:8] == b"ftyp" and header[8:] in HEIC_BRANDS


def is_decoded_in_strips(picture: Image.Image) -> bool:
    """Return whether a picture is a JPEG file that the decoder never holds as a whole.

    The decoder has to collect all coefficients of a progressive file, and of a file with a scan for
    each colour.
    """
    if picture.format not in ("JPEG", "MPO") or picture.info.get("progressive"):
        return False
    file, colours = picture.fp, None
    file.seek(2)
    while len(start := file.read(4)) == 4 and start[0] == 0xFF:
        marker, length = start[1], int.from_bytes(start[2:], "big")
        if marker not in MARKERS_WITH_LENGTH:
            return False
        segment = file.read(length - 2) if length > 2 else b""
        if marker in SEQUENTIAL_FRAMES and len(segment) > 5:
            colours = segment[5]
        elif marker == START_OF_SCAN:
            return segment[:1] == bytes([colours]) if colours else False
    return False


def in_colour(picture: Image.Image) -> Image.Image:
    """Return a picture of any mode, reduced, as RGB.

    Transparent pixels become white, or black behind a light object. The picture is reduced as early
    as its mode allows, to save memory.
    """
    if picture.mode.startswith(("I", "F")):  # Pillow would clip the values at 255
        picture = Image.fromarray(eight_bits(np.asarray(picture)))
    if not picture.has_transparency_data:
        return reduced(
            picture if picture.mode in ("L", "RGB", "CMYK") else picture.convert("RGB")
        ).convert("RGB")
    picture = reduced(picture.convert("RGBA"))
    opacity = np.asarray(picture.getchannel("A"), np.float32)
    light = (
        opacity.any() and np.average(np.asarray(picture.convert("L")), weights=opacity) > WHITE / 2
    )
    background = Image.new("RGBA", picture.size, "black" if light else "white")
    return Image.alpha_composite(background, picture).convert("RGB")


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Return grey values of 16 or 32 bits as uint8.

    White is the smallest of 1 (floats only), 255 and 65535 that is not exceeded, because programs
    write values of any of these ranges to such files. If all are exceeded, white is the maximum.
    """
    ranges = (1, WHITE, 65535) if values.dtype.kind == "f" else (WHITE, 65535)
    values = np.nan_to_num(values.astype(np.float32), posinf=0).clip(0)
    highest = values.max(initial=0)
    white = next((white for white in ranges if highest <= white), highest)
    return np.rint(values * (WHITE / white)).astype(np.uint8)


def reduced(picture: Image.Image) -> Image.Image:
    """Return a picture whose longest edge has at most WORKING pixels."""
    scale = max(picture.size) / WORKING
    if scale <= 1:
        return picture
    size = [max(1, round(length / scale)) for length in picture.size]
    return picture.resize(size, Image.Resampling.BOX)
