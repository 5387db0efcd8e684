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


def nothing(picture):
    """A segmentation that finds no item, so that only the smooth background cuts out."""
    return np.zeros(picture.shape[:2], np.float32)


def everything(picture):
    """A segmentation that takes the whole picture for the item."""
    return np.ones(picture.shape[:2], np.float32)


def convert(picture, segment=nothing):
    return photo.convert(picture, segment)


def read(source, segment=nothing):
    return photo.read(source, segment)


def box(converted):
    """Left, top, right and bottom of the item."""
    rows, columns = (np.flatnonzero(converted.mask.any(axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def file_of(picture, kind="PNG", **options):
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(
        stream, kind, **options
    )
    return io.BytesIO(stream.getvalue())


def assert_is_boot(converted, off=0.04):
    assert converted.images[0].shape == (28, 28, 1) and converted.images[0].dtype == np.float32
    assert 0 == converted.images[0].min() and converted.images[0].max() == pytest.approx(1)
    assert np.abs(converted.images[0][..., 0] - boot()).mean() < off
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
    converted = convert(
        picture_of(boot(), background, colour, edge=112, position=(40, 150), size=(160, 280))
    )
    assert_is_boot(converted)
    assert box(converted) == (150, 40 + 6 * 4, 262, 40 + 22 * 4)


def test_light_from_one_side_and_noise_count_as_background():
    picture = picture_of(boot(), (0.9, 0.9, 0.85)).astype(float)
    light = np.linspace(1, 0.7, 300)[None, :, None] * np.linspace(0.85, 1, 200)[:, None, None]
    noisy = picture * light + np.random.default_rng(0).normal(0, 3, picture.shape)
    assert_is_boot(read(file_of(noisy.clip(0, 255).astype(np.uint8), "JPEG", quality=80)), off=0.07)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_supported(orientation):
    exif = Image.Exif()
    exif[photographs.ORIENTATION] = orientation
    upright = Image.fromarray(picture_of(boot()))
    turned = (
        upright.transpose(photographs.TRANSFORMATIONS[orientation]) if orientation > 1 else upright
    )
    assert_is_boot(read(file_of(turned, "JPEG", quality=95, exif=exif)), off=0.06)


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
    assert_is_boot(read(file_of(MODES[mode](Image.fromarray(picture_of(boot()))))), off=levels)


def test_cmyk_jpeg_and_webp_are_supported():
    picture = Image.fromarray(picture_of(boot()))
    assert_is_boot(read(file_of(picture.convert("CMYK"), "JPEG", quality=95)), off=0.06)
    assert_is_boot(read(file_of(picture, "WEBP", quality=90)), off=0.06)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255)])
def test_transparent_pixels_are_background_whatever_their_colour(colour):
    object_mask = np.kron(boot() > 0, np.ones((4, 4)))
    alpha = np.pad((255 * object_mask).astype(np.uint8), 40)
    picture = np.dstack([*(np.full_like(alpha, value) for value in colour), alpha])
    picture[alpha == 0, :3] = 120
    converted = read(file_of(picture))
    assert np.abs(converted.images[0][..., 0] - (boot() > 0)).mean() < 0.03
    assert converted.warnings == []


@pytest.mark.parametrize("negative", [False, True])
def test_an_image_of_the_data_set_is_unchanged(negative):
    image = (255 * boot()).round().astype(np.uint8)
    converted = read(file_of(255 - image if negative else image))
    np.testing.assert_allclose(converted.images[0][..., 0], boot(), atol=0.01)
    assert converted.mask is None and converted.warnings == []


@pytest.mark.parametrize(
    "background", [np.s_[[0, -1]], np.s_[0]], ids=["half of the border", "a quarter of it"]
)
def test_an_image_with_little_background_is_unchanged(background):
    image = np.linspace(0.4, 1, 28 * 28, dtype=np.float32).reshape(28, 28)
    image[background] = 0
    image[14, 14] = 1
    converted = read(file_of((255 * image).round().astype(np.uint8)))
    np.testing.assert_allclose(converted.images[0][..., 0], image, atol=0.01)
    assert converted.warnings == []


def half_found(picture):
    """A segmentation that finds the left half."""
    found = np.zeros(picture.shape[:2], np.float32)
    found[:, : picture.shape[1] // 2] = 1
    return found


NO_ITEM = {
    "noise": np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8),
    "one colour": np.full((120, 160, 3), 130, np.uint8),
    "black": np.zeros((120, 160, 3), np.uint8),
    "low contrast": picture_of(
        boot(), (0.5, 0.5, 0.5), (0.52, 0.52, 0.52), size=(150, 150), position=(20, 20)
    ),
}


@pytest.mark.parametrize("picture", NO_ITEM.values(), ids=NO_ITEM)
def test_without_an_item_there_is_no_model_input(picture):
    converted = convert(picture)
    assert converted.images.shape == (0, 28, 28, 1) and converted.mask is None
    assert converted.warnings == [photo.NO_OBJECT]


def test_several_items_and_an_item_beyond_the_edge_cause_a_warning():
    three_objects = np.full((150, 150, 3), 255, np.uint8)
    for column in (10, 60, 110):
        three_objects[50:100, column : column + 30] = 0
    assert convert(three_objects).warnings == [photo.SEVERAL_OBJECTS]
    assert convert(NO_ITEM["noise"], half_found).warnings == [photo.BEYOND_EDGE]


def test_on_a_cluttered_background_the_network_alone_cuts_out():
    converted = convert(NO_ITEM["noise"], half_found)
    assert len(converted.images) == 1 and box(converted) == (0, 0, 80, 120)


def test_on_a_smooth_background_that_is_not_plain_both_methods_cut_out():
    picture = picture_of(boot())
    picture[:, :20] = (120, 160, 90)  # something else at the edge
    both = convert(picture, half_found)
    assert len(both.images) == 2 and box(both) == (0, 0, 150, 200)
    np.testing.assert_array_equal(both.images[0], convert(picture).images[0])


def test_pixels_fade_with_their_probability():
    picture = np.zeros((20, 20, 3), np.uint8)
    mask = np.ones((20, 20), bool)
    probabilities = np.full((20, 20), 0.7, np.float32)
    probabilities[:, 10:] = 0.45
    image = photo.inverted(picture, mask, probabilities)[..., 0]
    assert image[:, :12].min() == pytest.approx(1, abs=0.1)
    assert image[:, 18:].max() == pytest.approx(0.5, abs=0.1)


def test_an_area_is_converted_like_a_picture_of_its_own():
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[40:140, 60:210] = picture_of(boot(), size=(100, 150), edge=56, position=(20, 50))
    area = 60 / 300, 40 / 200, 210 / 300, 140 / 200
    converted = photo.read(file_of(picture), nothing, area=area)
    assert converted.area == area
    np.testing.assert_array_equal(converted.images, read(file_of(picture[40:140, 60:210])).images)


def test_specks_are_not_part_of_the_object():
    picture = picture_of(boot())
    picture[5:8, 5:8] = 0
    picture[190:193, 20:23] = 0
    small = np.asarray(picture_file.reduced(Image.fromarray(picture)))
    assert_is_boot(convert(small), off=0.06)


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
    images = np.concatenate([convert(picture).images, convert(picture, everything).images])
    assert images.shape[1:] == (28, 28, 1) and len(images) and np.isfinite(images).all()
    assert 0 <= images.min() <= images.max() <= 1


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
            read(io.BytesIO(content))
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF"])
def test_damaged_files_give_a_photo_or_one_kind_of_error(kind):
    whole, rng = file_of(picture_of(boot()), kind).getvalue(), np.random.default_rng(0)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(whole)
        for position in rng.integers(len(whole), size=rng.integers(1, 20)):
            damaged[position] = rng.integers(256)
        try:
            end = rng.integers(len(whole) // 2, len(whole) + 1)
            converted = read(io.BytesIO(damaged[:end]), everything)
            outcomes.add(converted.images.shape[1:])
        except picture_file.PhotoError:
            outcomes.add(None)
    assert outcomes <= {(28, 28, 1), None} and None in outcomes
