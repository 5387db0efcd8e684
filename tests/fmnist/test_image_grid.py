import numpy as np
import pytest

from fmnist import image_grid
from tests.figures import image_arrays

IMAGE = np.random.default_rng(0).random((28, 28))
# Values of the float64 colours of Matplotlib's diverging colour map.
WHITE, RED, BLUE = 0.5, 1.0, 0.0


def test_images_are_dark_on_white_and_nan_is_outside():
    image = IMAGE.copy()
    image[:2] = np.nan
    cell = image_grid.grey(image)
    np.testing.assert_allclose(cell[2:, :, 1], 1 - image[2:])
    assert (cell[2:, :, 0] == cell[2:, :, 2]).all()
    assert (cell[:2, :, 2] > cell[:2, :, 0]).all()  # bluish


def test_signed_values_are_red_white_and_blue():
    cell = image_grid.signed(np.array([[2.0, 0.0, -2.0]]), 2)
    for colour, value in zip(cell[0], (RED, WHITE, BLUE), strict=True):
        np.testing.assert_array_equal(colour, image_grid.DIVERGING(value)[:3])
    zero = image_grid.signed(np.zeros((2, 2)), 0)  # a limit of zero divides nothing
    np.testing.assert_array_equal(zero[0, 0], image_grid.DIVERGING(WHITE)[:3])


def test_an_overlay_is_pale_where_values_are_small_and_coloured_where_they_are_large():
    values = np.zeros((28, 28))
    values[3, 4], values[5, 6] = 1, 99
    cell = image_grid.overlay(IMAGE, values, 1)
    np.testing.assert_allclose(cell[3, 4], image_grid.HEAT(1.0)[:3])
    np.testing.assert_allclose(cell[5, 6], image_grid.HEAT(1.0)[:3])  # limited
    assert np.ptp(cell[0, 0]) < 1e-6 and cell[0, 0, 0] > 0.5
    values[7, 8] = -1
    cell = image_grid.overlay(IMAGE, values, 1, has_sign=True)
    np.testing.assert_allclose(cell[7, 8], image_grid.DIVERGING(BLUE)[:3])
    np.testing.assert_allclose(cell[3, 4], image_grid.DIVERGING(RED)[:3])
    assert cell.min() >= 0 and cell.max() <= 1


def test_a_grid_draws_all_cells_with_their_texts_at_their_places():
    cells = [image_grid.grey(IMAGE * factor) for factor in (0.2, 0.4, 0.6, 0.8, 1)]
    figure = image_grid.grid(
        [cells[:3], cells[3:]],
        "All cells",
        ["first row", "second\nrow"],
        [["a", "b", "c"], ["d"]],
        [["red", "green", "blue"], ["black"]],
        gaps=[1],
        colour_bar=(image_grid.DIVERGING, ("low", "high")),
    )
    drawn = image_arrays(figure)
    for cell, image in zip(cells, drawn, strict=False):
        np.testing.assert_allclose(image, cell, atol=1e-6)
    axes = figure.axes[0]
    texts = {text.get_text(): text for text in axes.texts}
    assert texts.keys() == {"All cells", "first row", "second\nrow", *"abcd", "low", "high"}
    assert texts["b"].get_color() == "green"
    extents = [image.get_extent() for image in axes.images[:5]]
    for (left, right, bottom, top), name in zip(extents, "abcd", strict=False):
        x, y = texts[name].get_position()
        assert left < x < right and y < top < bottom
    assert extents[0][1] + 0.2 < extents[1][0]  # the gap
    assert extents[1][1] + 0.2 > extents[2][0]
    assert extents[0][:2] == extents[3][:2] and extents[0][2] < extents[3][3]


@pytest.mark.parametrize("labels", [(), ("a very long label of a row",)])
def test_the_width_of_a_grid_follows_its_labels(labels):
    width = image_grid.grid([[image_grid.grey(IMAGE)]], "", labels).get_size_inches()[0]
    assert (width > 2) == bool(labels)
