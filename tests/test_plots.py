import numpy as np
import pytest
from matplotlib.colors import to_hex

import plots
from tests.figures import (
    CORRECT,
    IMAGES,
    LABELS,
    NAMES,
    PROBABILITIES,
    image_arrays,
    image_axes,
    pixels,
)

pytestmark = pytest.mark.usefixtures("default_style")

HISTORY = [
    {
        "epoch": epoch,
        "accuracy": 0.5 + epoch / 20,
        "val_accuracy": 0.4 + epoch / 20,
        "loss": 2 / epoch,
        "val_loss": 2.5 / epoch,
        "learning_rate": 0.01,
    }
    for epoch in (1, 2, 3, 4)
]


@pytest.mark.parametrize("history", [HISTORY, HISTORY[:1]])
def test_curves_show_the_history_and_mark_the_saved_epoch(history):
    figure = plots.curves(history, saved_epoch=1, training_conditions=[])
    assert pixels(figure).std() > 10
    for axes, key in zip(figure.axes, ("accuracy", "loss"), strict=True):
        training, validation, saved_epoch = axes.lines
        assert list(training.get_ydata()) == [row[key] for row in history]
        assert list(validation.get_ydata()) == [row[f"val_{key}"] for row in history]
        assert set(saved_epoch.get_xdata()) == {1}
        assert axes.get_xlabel() and axes.get_ylabel()
        assert len(history) > 1 or training.get_marker() == "o"
        assert training.get_label() == "training"


def test_curves_show_a_learning_rate_that_changes_and_the_conditions_of_training():
    history = [
        row | {"learning_rate": rate} for row, rate in zip(HISTORY, (1, 3, 2, 0), strict=True)
    ]
    figure = plots.curves(history, 4, ["dropout", "augmentation"])
    accuracy, _, rate = figure.axes
    assert list(rate.lines[0].get_ydata()) == [1, 3, 2, 0]
    assert "earning rate" in rate.get_ylabel() and rate.get_xlabel() == "Epoch"
    assert accuracy.lines[0].get_label() == "training, with dropout and augmentation"
    assert pixels(figure).std() > 10


def test_the_confusion_matrix_shows_counts_coloured_by_fractions():
    figure = plots.confusion_matrix(np.array([[8, 2, 0], [0, 5, 0], [0, 0, 0]]), NAMES)
    axes = image_axes(figure)[0]
    assert [text.get_text() for text in axes.texts] == ["8", "2", "5"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2, 0], [0, 1, 0], [0, 0, 0]])
    assert axes.get_xlabel() == "Predicted class" and axes.get_ylabel() == "True class"
    assert pixels(figure).std() > 10


def test_correct_predictions_are_blue_and_wrong_predictions_are_red():
    figure = plots.predictions(IMAGES[:10], LABELS[:10], PROBABILITIES[:10], NAMES)
    (axes,) = image_axes(figure)
    np.testing.assert_array_equal(image_arrays(figure), IMAGES[:10, ..., 0])
    for text, shown, label, image_probabilities, correct in zip(
        axes.texts, axes.images, LABELS[:10], PROBABILITIES[:10], CORRECT[:10], strict=True
    ):
        title = text.get_text()
        assert f"{NAMES[image_probabilities.argmax()]} {image_probabilities.max():.0%}" in title
        assert (f"true: {NAMES[label]}" in title) == (not correct)
        assert to_hex(text.get_color()).upper() == (plots.BLUE if correct else plots.RED)
        # The title is centred above its image.
        x, y = text.get_position()
        begin, end, _, top = shown.get_extent()
        assert x == pytest.approx((begin + end) / 2) and 0 < top - y < 0.1
    assert pixels(figure).std() > 10


def test_correct_and_wrong_predictions_are_shown_side_by_side():
    figure = plots.correct_and_wrong(IMAGES, LABELS, PROBABILITIES, NAMES)
    expected = [*IMAGES[CORRECT][:12], *IMAGES[~CORRECT][:12]]
    np.testing.assert_array_equal(image_arrays(figure), np.array(expected)[..., 0])
    assert pixels(figure).std() > 10


def test_mistakes_are_sorted_by_confidence():
    figure = plots.mistakes(IMAGES, LABELS, PROBABILITIES, NAMES, rows=1)
    wrong = np.flatnonzero(~CORRECT)
    order = sorted(wrong, key=lambda index: -PROBABILITIES[index].max())[:6]
    np.testing.assert_array_equal(image_arrays(figure), IMAGES[order][..., 0])
    assert pixels(figure).std() > 10


def test_the_reliability_diagram_omits_bins_with_few_images():
    before = np.array([0, 30, 20]), np.array([0, 0.5, 0.9]), np.array([0, 0.4, 0.2])
    after = np.array([19, 30, 0]), np.array([0.3, 0.5, 0]), np.array([0.2, 0.4, 0])
    figure = plots.calibration(before, after, 0.25, 0.125)
    _, before_line, after_line = figure.axes[0].lines
    assert list(before_line.get_xdata()) == [0.5, 0.9] and list(after_line.get_ydata()) == [0.4]
    assert "0.250" in before_line.get_label() and "0.125" in after_line.get_label()
    assert pixels(figure).std() > 10


@pytest.mark.parametrize(
    "labels",
    [PROBABILITIES.argmax(axis=1), PROBABILITIES.argmin(axis=1)],
    ids=["perfect", "all wrong"],
)
def test_figures_of_a_perfect_and_an_always_wrong_model_are_drawn(labels):
    for plot in (plots.correct_and_wrong, plots.mistakes):
        pixels(plot(IMAGES, labels, PROBABILITIES, NAMES))


@pytest.mark.parametrize("count", [1, 4, 5])
def test_class_bars_show_the_probabilities_beside_each_image(count):
    figure = plots.class_bars(IMAGES[:count], LABELS[:count], PROBABILITIES[:count], NAMES)
    assert len(image_axes(figure)) == count
    bars = [axes for axes in figure.axes if axes.patches]
    for axes, image_probabilities in zip(bars, PROBABILITIES[:count], strict=True):
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], image_probabilities)
    assert pixels(figure).std() > 10
