import numpy as np
import pytest
from matplotlib.colors import to_hex

import plots
from tests.figures import CORRECT, IMAGES, LABELS, NAMES, SHARES, pictures, pictures_of, pixels

HISTORY = [
    {
        "epoch": epoch,
        "accuracy": 0.5 + epoch / 20,
        "val_accuracy": 0.4 + epoch / 20,
        "loss": 2 / epoch,
        "val_loss": 2.5 / epoch,
    }
    for epoch in (1, 2, 3, 4)
]


@pytest.mark.parametrize("history", [HISTORY, HISTORY[:1]])
def test_curves_show_the_history_and_mark_the_epoch(history):
    figure = plots.curves(history, chosen_epoch=1)
    assert pixels(figure).std() > 10
    for axes, key in zip(figure.axes, ("accuracy", "loss"), strict=True):
        training, validation, mark = axes.lines
        assert list(training.get_ydata()) == [row[key] for row in history]
        assert list(validation.get_ydata()) == [row[f"val_{key}"] for row in history]
        assert set(mark.get_xdata()) == {1}
        assert axes.get_xlabel() and axes.get_ylabel()
        assert len(history) > 1 or training.get_marker() == "o"


def test_confusion_matrix_writes_the_counts_and_shades_the_shares():
    figure = plots.confusion_matrix(np.array([[8, 2, 0], [0, 5, 0], [0, 0, 0]]), NAMES)
    axes = pictures(figure)[0]
    assert [text.get_text() for text in axes.texts] == ["8", "2", "5"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2, 0], [0, 1, 0], [0, 0, 0]])
    assert axes.get_xlabel() == "Predicted class" and axes.get_ylabel() == "True class"
    assert pixels(figure).std() > 10


def test_predictions_are_blue_where_correct_and_red_where_wrong():
    figure = plots.predictions(IMAGES[:10], LABELS[:10], SHARES[:10], NAMES)
    assert len(pictures(figure)) == 10
    for axes, image, label, shares, correct in zip(
        pictures(figure), IMAGES[:10], LABELS[:10], SHARES[:10], CORRECT[:10], strict=True
    ):
        np.testing.assert_array_equal(axes.images[0].get_array(), image[..., 0])
        title = axes.get_title()
        assert f"{NAMES[shares.argmax()]} {shares.max():.0%}" in title
        assert (f"is {NAMES[label]}" in title) == (not correct)
        assert to_hex(axes.title.get_color()).upper() == (plots.BLUE if correct else plots.RED)
    assert pixels(figure).std() > 10


def test_correct_and_wrong_stand_side_by_side():
    figure = plots.correct_and_wrong(IMAGES, LABELS, SHARES, NAMES)
    wanted = [*IMAGES[CORRECT][:12], *IMAGES[~CORRECT][:12]]
    np.testing.assert_array_equal(pictures_of(figure), np.array(wanted)[..., 0])
    assert pixels(figure).std() > 10


def test_mistakes_are_the_surest_wrong_ones_in_order():
    figure = plots.mistakes(IMAGES, LABELS, SHARES, NAMES, rows=1)
    wrong = np.flatnonzero(~CORRECT)
    order = sorted(wrong, key=lambda index: -SHARES[index].max())[:6]
    np.testing.assert_array_equal(pictures_of(figure), IMAGES[order][..., 0])
    assert pixels(figure).std() > 10


def test_calibration_leaves_bins_of_few_images_out():
    before = np.array([0, 30, 20]), np.array([0, 0.5, 0.9]), np.array([0, 0.4, 0.2])
    after = np.array([19, 30, 0]), np.array([0.3, 0.5, 0]), np.array([0.2, 0.4, 0])
    figure = plots.calibration(before, after, 0.25, 0.125)
    _, first, second = figure.axes[0].lines
    assert list(first.get_xdata()) == [0.5, 0.9] and list(second.get_ydata()) == [0.4]
    assert "0.250" in first.get_label() and "0.125" in second.get_label()
    assert pixels(figure).std() > 10


@pytest.mark.parametrize(
    "labels", [SHARES.argmax(axis=1), SHARES.argmin(axis=1)], ids=["perfect", "all wrong"]
)
def test_figures_of_a_perfect_and_a_hopeless_model(labels):
    for draw in (plots.correct_and_wrong, plots.mistakes):
        pixels(draw(IMAGES, labels, SHARES, NAMES))


@pytest.mark.parametrize("count", [1, 4, 5])
def test_probabilities_show_every_distribution_beside_its_image(count):
    figure = plots.class_bars(IMAGES[:count], LABELS[:count], SHARES[:count], NAMES)
    assert len(pictures(figure)) == count
    bars = [axes for axes in figure.axes if axes.patches]
    for axes, shares in zip(bars, SHARES[:count], strict=True):
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], shares)
    assert pixels(figure).std() > 10
