import numpy as np
import pytest

from tests.figures import IMAGES, LABELS, NAMES, image_arrays, image_axes
from tools.exploration import figures

pytestmark = pytest.mark.usefixtures("default_style")


def test_every_figure_draws_the_given_data():
    figure = figures.samples(IMAGES, LABELS, NAMES, columns=4)
    np.testing.assert_array_equal(image_arrays(figure)[4], IMAGES[LABELS == 1][0][..., 0])
    figure = figures.class_counts(
        {"train": np.array([5, 6, 7]), "test": np.array([1, 2, 3])}, NAMES
    )
    assert [bar.get_width() for bar in figure.axes[0].patches] == [5, 6, 7, 1, 2, 3]
    figure = figures.class_means(IMAGES[:3], IMAGES[3:6], NAMES)
    assert [axes.get_title() for axes in figure.axes[:3]] == list(NAMES)
    np.testing.assert_allclose(image_arrays(figure)[3], IMAGES[3, ..., 0] / IMAGES[3:6].max())
    figure = figures.pixel_histogram({"train": np.full(256, 2), "test": np.arange(256)})
    np.testing.assert_allclose(figure.axes[0].patches[0].get_data().values, 100 / 256)
    figure = figures.image_pairs(IMAGES[:6].reshape(3, 2, 28, 28, 1), ["a", "b", "c"], "pairs")
    np.testing.assert_array_equal(image_arrays(figure)[1][:, 29:], IMAGES[3, ..., 0])
    assert [axes.get_title() for axes in image_axes(figure)] == ["a", "b", "c"]
