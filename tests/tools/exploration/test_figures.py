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


def test_the_augmentation_of_three_images_is_drawn(monkeypatch):
    monkeypatch.setattr(figures, "AUGMENTED", NAMES[::-1])
    images = IMAGES.astype(np.float32)
    figure = figures.augmentation(images, LABELS, NAMES)
    columns = len(NAMES) * (1 + figures.EPOCHS)
    shape = len(figures.AUGMENTATIONS) - 1, len(NAMES), 1 + figures.EPOCHS, 28, 28
    drawn = np.reshape(image_arrays(figure), shape)  # kinds, images, original and epochs
    originals = [images[LABELS == label][0][..., 0] for label in (2, 1, 0)]
    for kind in drawn:
        np.testing.assert_array_equal(kind[:, 0], originals)
    flips, shifts, erased, photos = drawn
    np.testing.assert_array_equal(flips[:, 1], np.flip(originals, axis=2))
    np.testing.assert_array_equal(flips[:, 2], originals)
    assert not any(np.array_equal(kind[:, 1:], flips[:, 1:]) for kind in (shifts, erased, photos))
    titles = [axes.get_title() for axes in figure.axes[:columns]]
    assert titles[:: 1 + figures.EPOCHS] == [*NAMES[::-1]] and titles[1] == "epoch 1"
    repeated = figures.augmentation(images, LABELS, NAMES)
    np.testing.assert_array_equal(image_arrays(repeated), image_arrays(figure))
