import numpy as np
import pytest
from PIL import Image

from fmnist.training import composites

COUNT = 200


@pytest.fixture(scope="module")
def material():
    images = np.zeros((10, 28, 28), np.uint8)
    images[:, 4:24, 8:20] = 200
    item = np.zeros((60, 40, 4), np.uint8)
    item[..., 0], item[..., 3] = 255, 255
    strip = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 80, 3), np.uint8))
    return composites.Material(
        {3: [Image.fromarray(item)]}, composites.by_class(images, np.arange(10)), [strip]
    )


@pytest.fixture(scope="module")
def made(material):
    rng = np.random.default_rng(1)
    return [composites.composite(material, rng) for _ in range(COUNT)]


def test_composites_have_pixels_masks_and_all_labels(made):
    for pixels, mask, _ in made:
        assert pixels.shape == (64, 64, 3) and pixels.dtype == mask.dtype == np.uint8
        assert mask.shape == (64, 64)
    assert {label for *_, label in made} == set(range(10))


def test_few_composites_show_no_item(made):
    empty = np.mean([not mask.any() for _, mask, _ in made])
    assert 0 < empty < 0.12
    assert np.mean([(mask > 127).mean() for _, mask, _ in made]) > 0.1


def test_composites_are_determined_by_the_seed(material, made):
    rng = np.random.default_rng(1)
    for pixels, mask, label in made[:20]:
        again = composites.composite(material, rng)
        np.testing.assert_array_equal(again[0], pixels)
        np.testing.assert_array_equal(again[1], mask)
        assert again[2] == label


def test_without_pieces_of_photographs_backgrounds_are_plain(material):
    rng = np.random.default_rng(0)
    for _ in range(30):
        pixels = composites.background([], rng)
        assert pixels.shape == (64, 64, 3) and np.abs(np.diff(pixels, axis=0)).max() < 0.05


def test_an_item_and_the_pieces_beside_it_are_cut_out():
    picture = np.zeros((100, 120, 3), np.uint8)
    mask = np.zeros((100, 120), bool)
    mask[30:60, 40:100] = True
    picture[mask] = 200
    item = np.asarray(composites.cut_out(picture, mask))
    assert item.shape == (30, 60, 4) and (item[..., 3] == 255).all() and (item[..., 0] == 200).all()
    strips = composites.strips_beside(picture, mask)
    assert [strip.size for strip in strips] == [(120, 27), (120, 37), (37, 100), (17, 100)]
    assert not any(np.asarray(strip).any() for strip in strips)


def test_a_view_changes_picture_and_mask_alike():
    rng = np.random.default_rng(0)
    picture = np.zeros((100, 120, 3), np.uint8)
    picture[30:60, 40:100] = 255
    for _ in range(30):
        pixels, mask = composites.view(picture, picture[..., 0] > 0, rng)
        inside, outside = pixels[mask > 200], pixels[mask < 50]
        assert np.abs(inside.mean(axis=0) - outside.mean(axis=0)).max() > 100
