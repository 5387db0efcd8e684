import numpy as np
import pytest

from fmnist.evaluation import ood
from tests import synthetic_data


@pytest.fixture(scope="module")
def made():
    images, labels, *_ = synthetic_data.made_arrays()
    images = (images / 255).astype(np.float32)[..., None]
    probabilities = 0.9 * np.eye(10)[labels] + 0.01
    return (
        images,
        labels,
        probabilities,
        ood.fit(images[:400], labels[:400], images[400:], probabilities[400:]),
    )


def test_most_of_what_it_knows_is_kept_and_what_it_does_not_know_is_not(made):
    images, _, probabilities, known = made
    assert 0 < ood.is_novel(known, images[400:], probabilities[400:]).mean() <= 1 - ood.KEPT
    rng = np.random.default_rng(0)
    for strange in (
        rng.random((50, 28, 28, 1)),
        np.ones((50, 28, 28, 1)),
        images[:50].transpose(0, 2, 1, 3),
    ):
        assert ood.is_novel(known, strange.astype(np.float32), probabilities[:50]).mean() > 0.9


def test_of_ten_validation_images_none_is_novel():
    """Four scores each may leave out a part of an image, which has to be none."""
    images, labels, *_ = synthetic_data.made_arrays()
    images, probabilities = (
        (images / 255).astype(np.float32)[..., None],
        0.9 * np.eye(10)[labels] + 0.01,
    )
    known = ood.fit(images[:400], labels[:400], images[400:410], probabilities[400:410])
    assert not ood.is_novel(known, images[400:410], probabilities[400:410]).any()


def test_the_scores_are_what_they_are_called(made):
    images, labels, probabilities, known = made
    away, left, share, unsure = ood.scores(known, images[:20], probabilities[:20]).T
    np.testing.assert_allclose(unsure, 0.09, atol=1e-6)
    flat = images[:20].reshape(20, -1) - known.mean
    projected = flat @ known.components.T
    np.testing.assert_allclose(left, (flat**2).sum(axis=1) - (projected**2).sum(axis=1), rtol=1e-3)
    np.testing.assert_allclose(share, left / (images[:20] ** 2).sum(axis=(1, 2, 3)), rtol=1e-3)
    # An image at its class' own centre is not away at all, at another's it is.
    centre = known.mean + known.centres[0] @ known.components
    itself, other = np.eye(10)[[0]], np.eye(10)[[1]]
    at_home, abroad = (
        ood.scores(known, centre.reshape(1, 28, 28, 1), each)[0, 0] for each in (itself, other)
    )
    assert at_home < 1e-3 and abroad > 10


def test_an_unsure_network_is_enough(made):
    images, _, probabilities, known = made
    some = ~ood.is_novel(known, images, probabilities)
    assert ood.is_novel(known, images[some], np.full((some.sum(), 10), 0.1)).all()


@pytest.mark.parametrize("count", [2, 5, 30])
def test_few_images_are_enough_to_fit(made, count):
    images, labels, probabilities, _ = made
    known = ood.fit(images[:count], labels[:count], images[400:], probabilities[400:])
    assert all(np.isfinite(array).all() for array in known)


def test_a_black_image_has_scores(made):
    *_, known = made
    assert np.isfinite(
        ood.scores(known, np.zeros((1, 28, 28, 1), np.float32), np.full((1, 10), 0.1))
    ).all()
