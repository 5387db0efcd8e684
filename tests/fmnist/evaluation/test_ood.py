import numpy as np
import pytest

from fmnist.evaluation import ood
from tests import synthetic_data


@pytest.fixture(scope="module")
def data():
    """Return images, labels and confident class probabilities of synthetic data."""
    images, labels, *_ = synthetic_data.make_arrays()
    images = (images / 255).astype(np.float32)[..., None]
    return images, labels, 0.9 * np.eye(10)[labels] + 0.01


@pytest.fixture(scope="module")
def fitted(data):
    images, labels, probabilities = data
    return ood.fit(images[:400], labels[:400], images[400:], probabilities[400:])


def test_few_validation_images_and_most_other_images_are_out_of_distribution(data, fitted):
    images, _, probabilities = data
    fraction = ood.is_novel(fitted, images[400:], probabilities[400:]).mean()
    assert 0 < fraction <= 1 - ood.IN_DISTRIBUTION
    rng = np.random.default_rng(0)
    for other_images in (
        rng.random((50, 28, 28, 1)),
        np.ones((50, 28, 28, 1)),
        images[:50].transpose(0, 2, 1, 3),
    ):
        novel = ood.is_novel(fitted, other_images.astype(np.float32), probabilities[:50])
        assert novel.mean() > 0.9


def test_none_of_ten_validation_images_is_out_of_distribution(data):
    """At most 5 % of the images may exceed a limit, which is less than one image of ten."""
    images, labels, probabilities = data
    novelty = ood.fit(images[:400], labels[:400], images[400:410], probabilities[400:410])
    assert not ood.is_novel(novelty, images[400:410], probabilities[400:410]).any()


def test_the_four_scores_agree_with_their_definitions(data, fitted):
    images, _, probabilities = data
    _, error, relative_error, uncertainty = ood.scores(fitted, images[:20], probabilities[:20]).T
    np.testing.assert_allclose(uncertainty, 0.09, atol=1e-6)
    flat = images[:20].reshape(20, -1) - fitted.mean
    projected = flat @ fitted.components.T
    np.testing.assert_allclose(error, (flat**2).sum(axis=1) - (projected**2).sum(axis=1), rtol=1e-3)
    np.testing.assert_allclose(
        relative_error, error / (images[:20] ** 2).sum(axis=(1, 2, 3)), rtol=1e-3
    )
    # The distance of the centre of class 0 is 0 if class 0 is predicted, and large for class 1.
    centre = (fitted.mean + fitted.centres[0] @ fitted.components).reshape(1, 28, 28, 1)
    assert ood.scores(fitted, centre, np.eye(10)[[0]])[0, 0] < 1e-3
    assert ood.scores(fitted, centre, np.eye(10)[[1]])[0, 0] > 10


def test_a_low_confidence_alone_makes_an_image_out_of_distribution(data, fitted):
    images, _, probabilities = data
    in_distribution = images[~ood.is_novel(fitted, images, probabilities)]
    uniform = np.full((len(in_distribution), 10), 0.1)
    assert ood.is_novel(fitted, in_distribution, uniform).all()


@pytest.mark.parametrize("count", [2, 5, 30])
def test_few_training_images_give_finite_statistics(data, count):
    images, labels, probabilities = data
    novelty = ood.fit(images[:count], labels[:count], images[400:], probabilities[400:])
    assert all(np.isfinite(array).all() for array in novelty)


def test_the_scores_of_a_black_image_are_finite(fitted):
    black = np.zeros((1, 28, 28, 1), np.float32)
    assert np.isfinite(ood.scores(fitted, black, np.full((1, 10), 0.1))).all()
