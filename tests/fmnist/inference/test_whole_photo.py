import numpy as np
import pytest

from fmnist import runs
from fmnist.inference import photo, whole_photo


@pytest.fixture(scope="module")
def classify():
    return whole_photo.load()


@pytest.mark.parametrize("size", [(1, 1), (160, 90), (3, 160)])
def test_a_picture_of_any_shape_is_classified(classify, size):
    probabilities = classify(np.zeros((*size, 3), np.uint8))
    assert probabilities.shape == (10,) and probabilities.min() >= 0
    assert probabilities.sum() == pytest.approx(1, abs=1e-4)


def test_a_mirrored_picture_is_classified_alike(classify):
    picture = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)
    np.testing.assert_allclose(classify(picture), classify(picture[:, ::-1]), atol=1e-5)


def test_a_missing_or_other_network_is_one_line(tmp_path):
    with pytest.raises(runs.RunError, match="missing"):
        whole_photo.load(tmp_path)
    with pytest.raises(runs.RunError, match="not a model for whole photographs"):
        whole_photo.load(runs.BEST)


def segment(picture):
    """Take the left half of a picture for the item."""
    return np.repeat([np.linspace(1, 0, picture.shape[1])], picture.shape[0], axis=0)


def no_prediction(picture):
    raise AssertionError("the whole photograph was classified")


def test_the_whole_photograph_is_classified_unless_the_background_is_plain():
    prediction = np.eye(10)[3]
    cluttered = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    converted = photo.convert(cluttered, segment, lambda picture: prediction)
    assert len(converted.images) == 1 and converted.whole is prediction
    assert photo.convert(cluttered, segment).whole is None
    # Nothing is classified if no item is found.
    nothing = photo.convert(cluttered, lambda picture: np.zeros((60, 80)), no_prediction)
    assert nothing.mask is None and nothing.whole is None

    plain = np.full((60, 80, 3), 230, np.uint8)
    plain[20:40, 30:50] = 20
    converted = photo.convert(plain, no_prediction, no_prediction)
    assert len(converted.images) == 1 and converted.whole is None
    assert converted.mask[20:40, 30:50].all() and converted.mask.sum() == 400


def test_all_predictions_count_alike():
    outputs = np.eye(10)[:2]
    np.testing.assert_allclose(photo.combined(outputs[:1], None), np.eye(10)[0])
    np.testing.assert_allclose(photo.combined(outputs, None)[:2], 1 / 2)
    np.testing.assert_allclose(photo.combined(outputs, np.eye(10)[2])[:3], 1 / 3)
