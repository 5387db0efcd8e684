import numpy as np
import pytest

from fmnist import runs
from fmnist.inference import segmentation


@pytest.fixture(scope="module")
def segment():
    return segmentation.load()


def overlap(mask, expected):
    """Intersection over union."""
    return (mask & expected).sum() / (mask | expected).sum()


@pytest.mark.parametrize("size", [(120, 160), (160, 90), (64, 64), (20, 30)])
def test_a_dark_item_on_a_light_background_is_found(segment, size):
    height, width = size
    expected = np.zeros(size, bool)
    expected[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
    picture = np.where(expected[..., None], (30, 50, 120), (235, 230, 225)).astype(np.uint8)
    probabilities = segment(picture)
    assert probabilities.shape == size and probabilities.dtype == np.float32
    assert overlap(probabilities > 0.5, expected) > 0.85


def test_no_item_is_found_in_a_single_colour(segment):
    for grey in (0, 128, 255):
        assert (segment(np.full((100, 80, 3), grey, np.uint8)) > 0.5).mean() < 0.05


@pytest.mark.parametrize("size", [(1, 1), (1, 160), (160, 1), (3, 2)])
def test_a_picture_of_any_shape_is_segmented(segment, size):
    probabilities = segment(np.zeros((*size, 3), np.uint8))
    assert probabilities.shape == size and 0 <= probabilities.min() <= probabilities.max() <= 1


def test_a_missing_or_other_network_is_one_line(tmp_path):
    with pytest.raises(runs.RunError, match="missing"):
        segmentation.load(tmp_path)
    with pytest.raises(runs.RunError, match="not a model for segmentation"):
        segmentation.load(runs.BEST)
