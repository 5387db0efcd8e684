import numpy as np
import pytest
from PIL import Image

from fmnist.training import outliers

IMAGES = np.random.default_rng(0).random((20, 28, 28, 1)).astype(np.float32)


def test_outliers_are_model_inputs_and_determined_by_the_seed():
    first, second = (
        outliers.outliers(IMAGES, [], 100, np.random.default_rng(seed)) for seed in (1, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert first.shape == (100, 28, 28, 1) and first.dtype == np.float32
    assert first.min() >= 0 and first.max(axis=(1, 2, 3)) == pytest.approx(1)
    assert len(np.unique(first.reshape(100, -1), axis=0)) == 100


def test_backgrounds_of_photographs_are_among_the_outliers():
    stripes = Image.fromarray(np.tile(np.uint8([0, 255]), (40, 20)))
    found = outliers.outliers(IMAGES, [stripes], 200, np.random.default_rng(1))
    alone = outliers.outliers(IMAGES, [], 200, np.random.default_rng(1))
    assert 10 < (found != alone).any(axis=(1, 2, 3)).sum()


def test_shuffled_images_consist_of_the_parts_of_an_image():
    image = outliers.shuffled(IMAGES[:1], np.random.default_rng(0))
    assert (image != IMAGES[0, ..., 0]).any()
    np.testing.assert_array_equal(np.sort(image, axis=None), np.sort(IMAGES[0], axis=None))


def test_two_images_are_combined_beside_or_below_each_other():
    for seed in range(4):
        image = outliers.combined(np.ones_like(IMAGES), np.random.default_rng(seed))
        assert sorted((image.any(axis=0).sum(), image.any(axis=1).sum())) == [14, 28]
