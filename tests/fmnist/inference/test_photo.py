import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import photographs
from fmnist.inference import photo, picture_file


def boot():
    """An image of a boot, light on black, as wide as the frame and in its middle."""
    image = np.zeros((28, 28), np.float32)
    image[6:20, 16:26] = 0.6
    image[14:20] = 1
    image[20:22, 4:20] = 0.3
    return image


def picture_of(
    image,
    background=(1, 1, 1),
    colour=(0.1, 0.2, 0.5),
    size=(200, 300),
    edge=112,
    position=(40, 150),
):
    """Return (height, width, 3) uint8."""
    share = np.zeros((*size, 1))
    share[position[0] : position[0] + edge, position[1] : position[1] + edge, 0] = np.kron(
        image, np.ones((edge // 28, edge // 28))
    )
    pixels = np.array(background) + share * (np.array(colour) - np.array(background))
    return (255 * pixels).round().astype(np.uint8)


def file_of(picture, kind="PNG", **options):
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(
        stream, kind, **options
    )
    return io.BytesIO(stream.getvalue())


def assert_is_boot(converted, off=0.04):
    assert converted.image.shape == (28, 28, 1) and converted.image.dtype == np.float32
    assert 0 == converted.image.min() and converted.image.max() == pytest.approx(1)
    assert np.abs(converted.image[..., 0] - boot()).mean() < off
    assert converted.warnings == []


BACKGROUNDS = {
    "white": ((1, 1, 1), (0.1, 0.2, 0.5)),
    "black": ((0, 0, 0), (0.9, 0.3, 0.3)),
    "grey, darker": ((0.5, 0.5, 0.5), (0.1, 0.1, 0.2)),
    "grey, lighter": ((0.5, 0.5, 0.5), (0.9, 1, 0.9)),
    "red and blue": ((0.8, 0.1, 0.1), (0.1, 0.1, 0.8)),
}


@pytest.mark.parametrize("background, colour", BACKGROUNDS.values(), ids=BACKGROUNDS)
def test_the_object_is_found_on_any_background_and_fills_the_frame(background, colour):
    converted = photo.convert(
        picture_of(boot(), background, colour, edge=112, position=(40, 150), size=(160, 280))
    )
    assert_is_boot(converted)
    assert converted.box == (150, 40 + 6 * 4, 262, 40 + 22 * 4)


def test_light_from_one_side_and_noise_count_as_background():
    picture = picture_of(boot(), (0.9, 0.9, 0.85)).astype(float)
    light = np.linspace(1, 0.7, 300)[None, :, None] * np.linspace(0.85, 1, 200)[:, None, None]
    noisy = picture * light + np.random.default_rng(0).normal(0, 3, picture.shape)
    assert_is_boot(
        photo.read(file_of(noisy.clip(0, 255).astype(np.uint8), "JPEG", quality=80)), off=0.07
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_supported(orientation):
    exif = Image.Exif()
    exif[photographs.ORIENTATION] = orientation
    upright = Image.fromarray(picture_of(boot()))
    turned = (
        upright.transpose(photographs.TRANSFORMATIONS[orientation]) if orientation > 1 else upright
    )
    assert_is_boot(photo.read(file_of(turned, "JPEG", quality=95, exif=exif)), off=0.06)


def grey16(picture):
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)


MODES = {
    "RGB": lambda picture: picture,
    "L": lambda picture: picture.convert("L"),
    "16 bit": grey16,
    "palette": lambda picture: picture.quantize(16),
    "1 bit": lambda picture: picture.convert("1", dither=0),
    "grey with alpha": lambda picture: picture.convert("LA"),
    "RGBA": lambda picture: picture.convert("RGBA"),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_png_mode_is_supported(mode):
    levels = 0.4 if mode == "1 bit" else 0.05  # one bit has no grey levels
    assert_is_boot(
        photo.read(file_of(MODES[mode](Image.fromarray(picture_of(boot()))))), off=levels
    )


def test_cmyk_jpeg_and_webp_are_supported():
    picture = Image.fromarray(picture_of(boot()))
    assert_is_boot(photo.read(file_of(picture.convert("CMYK"), "JPEG", quality=95)), off=0.06)
    assert_is_boot(photo.read(file_of(picture, "WEBP", quality=90)), off=0.06)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255)])
def test_transparent_pixels_are_background_whatever_their_colour(colour):
    object_mask = np.kron(boot() > 0, np.ones((4, 4)))
    alpha = np.pad((255 * object_mask).astype(np.uint8), 40)
    picture = np.dstack([*(np.full_like(alpha, value) for value in colour), alpha])
    picture[alpha == 0, :3] = 120
    converted = photo.read(file_of(picture))
    assert np.abs(converted.image[..., 0] - (boot() > 0)).mean() < 0.03 and converted.warnings == []


@pytest.mark.parametrize("negative", [False, True])
def test_an_image_of_the_data_set_is_unchanged(negative):
    image = (255 * boot()).round().astype(np.uint8)
    converted = photo.read(file_of(255 - image if negative else image))
    np.testing.assert_allclose(converted.image[..., 0], boot(), atol=0.01)
    assert converted.box == (0, 0, 28, 28) and converted.warnings == []


@pytest.mark.parametrize(
    "background", [np.s_[[0, -1]], np.s_[0]], ids=["half of the border", "a quarter of it"]
)
def test_an_image_with_little_background_is_unchanged(background):
    image = np.linspace(0.4, 1, 28 * 28, dtype=np.float32).reshape(28, 28)
    image[background] = 0
    image[14, 14] = 1
    converted = photo.read(file_of((255 * image).round().astype(np.uint8)))
    np.testing.assert_allclose(converted.image[..., 0], image, atol=0.01)
    assert converted.warnings == []


def warning_of(picture):
    warnings = photo.convert(picture).warnings
    assert len(warnings) == 1
    return warnings[0]


def test_unsuitable_pictures_cause_a_warning():
    rng = np.random.default_rng(0)
    assert "cluttered" in warning_of(rng.integers(0, 256, (120, 160, 3), np.uint8))
    assert "low contrast" in warning_of(np.full((120, 160, 3), 130, np.uint8))
    assert "low contrast" in warning_of(
        picture_of(boot(), (0.5, 0.5, 0.5), (0.52, 0.52, 0.52), size=(150, 150), position=(20, 20))
    )
    three_objects = np.full((150, 150, 3), 255, np.uint8)
    for column in (10, 60, 110):
        three_objects[50:100, column : column + 30] = 0
    assert "several" in warning_of(three_objects)


def test_specks_are_not_part_of_the_object():
    picture = picture_of(boot())
    picture[5:8, 5:8] = 0
    picture[190:193, 20:23] = 0
    small = np.asarray(picture_file.reduced(Image.fromarray(picture)))
    assert_is_boot(photo.convert(small), off=0.06)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (2, 1), (3, 3), (1, 160), (160, 1), (28, 28), (28, 29), (5, 160)]
)
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.filterwarnings("error")
def test_a_picture_of_any_shape_is_converted(shape, noisy):
    picture = (
        np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        if noisy
        else np.zeros((*shape, 3), np.uint8)
    )
    image = photo.convert(picture).image
    assert (
        image.shape == (28, 28, 1)
        and np.isfinite(image).all()
        and 0 <= image.min() <= image.max() <= 1
    )


@pytest.mark.filterwarnings("error")
def test_an_invalid_file_is_rejected_in_one_line(tmp_path):
    whole = file_of(picture_of(boot()), "JPEG").getvalue()
    bomb, larger = io.BytesIO(), io.BytesIO()
    Image.new("1", (10_000, 2_501)).save(bomb, "PNG")
    Image.new("1", (20_000, 20_000)).save(larger, "PNG")
    for content, message in (
        (b"", "not a JPEG"),
        (larger.getvalue(), "megapixels"),
        (b"GIF89a" + bytes(50), "corrupt"),
        (whole[: len(whole) // 2], "corrupt"),
        (whole[:20], "corrupt"),
        (bomb.getvalue(), "megapixels"),
    ):
        with pytest.raises(picture_file.PhotoError, match=message) as error:
            photo.read(io.BytesIO(content))
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError):
        photo.read(tmp_path / "none.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF"])
def test_damaged_files_give_a_photo_or_one_kind_of_error(kind):
    whole, rng = file_of(picture_of(boot()), kind).getvalue(), np.random.default_rng(0)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(whole)
        for position in rng.integers(len(whole), size=rng.integers(1, 20)):
            damaged[position] = rng.integers(256)
        try:
            outcomes.add(
                photo.read(
                    io.BytesIO(damaged[: rng.integers(len(whole) // 2, len(whole) + 1)])
                ).image.shape
            )
        except picture_file.PhotoError:
            outcomes.add(None)
    assert outcomes <= {(28, 28, 1), None} and None in outcomes
