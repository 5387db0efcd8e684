"""Picture files as phones, scanners and other programs write them."""

import builtins
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fmnist.inference import picture_file
from tests import ROOT

# A grey picture with a dark and a light half, larger than WORKING in one direction.
PIXELS = np.repeat(np.array([[40], [200]], np.uint8), [30, 30], axis=0).repeat(200, axis=1)


def file_of(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer


def assert_is_read(source, tolerance=3):
    pixels = picture_file.decode(source)
    assert pixels.shape == (48, 160, 3)
    assert abs(pixels[:20].mean() - 40) < tolerance and abs(pixels[-20:].mean() - 200) < tolerance


def jpeg(width=200, height=60, **options):
    return file_of(
        Image.fromarray(PIXELS).convert("RGB").resize((width, height)), "JPEG", **options
    )


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF", "JPEG progressive", "MPO"]
)
def test_every_format_is_read(kind):
    kind, _, progressive = kind.partition(" ")
    options = {"progressive": True} if progressive else {}
    if kind == "MPO":  # two pictures in a JPEG file, as some phones and cameras write
        options = {"save_all": True, "append_images": [Image.new("RGB", (200, 60), "red")]}
    assert_is_read(file_of(Image.fromarray(PIXELS).convert("RGB"), kind, **options))


def test_the_first_frame_of_an_animation_is_read():
    frames = [Image.fromarray(PIXELS), Image.new("L", (200, 60), 255)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        content = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
        assert_is_read(content)


def test_a_heic_file_is_read_with_pillow_heif_whatever_its_name(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    path = tmp_path / "photo.jpg"
    pillow_heif.from_pillow(Image.fromarray(PIXELS).convert("RGB")).save(path, format="HEIF")
    assert path.read_bytes()[4:8] == b"ftyp"
    assert_is_read(path)


@pytest.fixture
def without_pillow_heif(monkeypatch):
    import_module = builtins.__import__

    def fail(name, *arguments):
        if name == "pillow_heif":
            raise ImportError
        return import_module(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", fail)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    picture_file.formats.cache_clear()
    yield
    picture_file.formats.cache_clear()


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"hevx"])
def test_a_heic_file_named_jpg_is_called_heic(brand, without_pillow_heif, tmp_path):
    content = b"\0\0\0\x18ftyp" + brand + bytes(100)
    (tmp_path / "photo.jpg").write_bytes(content)
    for source in (tmp_path / "photo.jpg", str(tmp_path / "photo.jpg"), io.BytesIO(content)):
        with pytest.raises(picture_file.PhotoError, match="HEIC.*pillow-heif"):
            picture_file.decode(source)


def test_a_pillow_without_avif_reads_the_other_formats(without_pillow_heif, monkeypatch):
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF")
    for kind in ("JPEG", "BMP", "GIF"):
        assert_is_read(file_of(Image.fromarray(PIXELS), kind))


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"%PDF-1.7\n", b"\0\0\0\x18ftypisom", b"<svg/>"],
)
def test_other_files_are_not_pictures(content):
    with pytest.raises(picture_file.PhotoError, match="not a JPEG"):
        picture_file.decode(io.BytesIO(content))


@pytest.mark.parametrize("highest", [1, 100, 255, 256, 4095, 65535])
def test_the_values_of_a_16_bit_file_determine_what_is_white(highest):
    values = np.linspace(0, highest, 200).round().astype(np.uint16) * np.ones((60, 1), np.uint16)
    for kind in ("PNG", "TIFF"):
        pixels = picture_file.decode(file_of(Image.fromarray(values), kind))
        white = 255 if highest <= 255 else 65535
        assert pixels.max() == round(255 * highest / white)


@pytest.mark.parametrize(
    "highest, white", [(0.5, 1), (1, 1), (200, 255), (30_000, 65535), (1e6, 1e6)]
)
def test_the_values_of_a_float_file_determine_what_is_white(highest, white):
    values = np.linspace(0, highest, 100, dtype=np.float32) * np.ones((100, 1), np.float32)
    values[0, :3] = -1, np.nan, np.inf
    pixels = picture_file.decode(file_of(Image.fromarray(values), "TIFF"))
    assert pixels.max() == round(255 * highest / white)


@pytest.mark.parametrize("values", [np.zeros((9, 9), np.uint16), np.zeros((9, 9), np.float32)])
def test_a_black_file_of_many_bits_is_black(values):
    assert picture_file.decode(file_of(Image.fromarray(values), "TIFF")).max() == 0


def is_decoded_in_strips(content):
    with Image.open(io.BytesIO(content)) as picture:
        result = picture_file.is_decoded_in_strips(picture)
        picture.load()  # the file can still be read
    return result


def test_only_jpeg_files_with_a_single_scan_are_decoded_in_strips():
    content = jpeg().getvalue()
    assert is_decoded_in_strips(content)
    assert not is_decoded_in_strips(jpeg(progressive=True).getvalue())
    assert not is_decoded_in_strips(file_of(Image.fromarray(PIXELS), "PNG").getvalue())
    start = content.index(b"\xff\xda")
    one_colour = content[: start + 4] + b"\1" + content[start + 5 :]
    with Image.open(io.BytesIO(one_colour)) as picture:
        assert not picture_file.is_decoded_in_strips(picture)


def test_markers_that_hide_a_progressive_frame_are_not_decoded_in_strips():
    content = jpeg().getvalue()
    segment = b"\xff\xc2\0\x08\x08\0\x10\0\x10\x03"
    # A fill byte, after which the decoder finds the marker that looks like a length here.
    fill = b"\xff\xff\xc2\0" + bytes(0xC200 - 2)
    for inserted in (segment, fill, b"\xff\x01", b"\xff\xd8"):
        changed = content[:2] + inserted + content[2:]
        try:
            with Image.open(io.BytesIO(changed), formats=["JPEG"]) as picture:
                assert not picture_file.is_decoded_in_strips(picture), inserted[:4]
        except Image.UnidentifiedImageError:
            pass


def enlarged(content, width, height):
    """Return a JPEG file whose header claims another size."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        start = content.find(marker)
        if start >= 0:
            size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
            return io.BytesIO(content[: start + 5] + size + content[start + 9 :])


@pytest.mark.parametrize(
    "size, options, limit",
    [
        ((5001, 5000), {"progressive": True}, 25),
        ((12001, 10_000), {}, 120),
        ((65_000, 65_000), {}, 120),
    ],
)
def test_a_larger_picture_is_rejected(size, options, limit):
    content = enlarged(jpeg(**options).getvalue(), *size)
    with pytest.raises(picture_file.PhotoError, match=f"more than {limit} megapixels"):
        picture_file.decode(content)


@pytest.mark.slow
def test_the_photo_of_a_phone_is_decoded_in_little_memory(tmp_path):
    """120 megapixels would need 360 MB; 25, the limit of other formats, need 75 MB."""
    (tmp_path / "photo.jpg").write_bytes(jpeg(12_000, 10_000).getvalue())
    code = (
        "import resource, sys\nfrom fmnist.inference import picture_file\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\nprint(picture_file.decode(sys.argv[1]).shape, peak() - before)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "photo.jpg")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    shape, _, kilobytes = done.stdout.strip().rpartition(" ")
    assert shape == "(133, 160, 3)" and int(kilobytes) < 75_000
