import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

import plots
from fmnist.evaluation import metrics
from tests.figures import (
    CORRECT,
    IMAGES,
    LABELS,
    NAMES,
    PROBABILITIES,
    RNG,
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


def test_confused_pairs_show_the_first_mistakes_of_both_directions():
    pairs = metrics.confused_pairs(LABELS, PROBABILITIES, NAMES)
    figure = plots.confused_pairs(pairs, IMAGES, LABELS, PROBABILITIES, NAMES, examples=2)
    (axes,) = image_axes(figure)
    texts = [text.get_text() for text in axes.texts]
    canvas = axes.images[0].get_array()
    predicted = PROBABILITIES.argmax(axis=1)
    expected = np.zeros(canvas.shape)
    for index, pair in enumerate(pairs):
        first, second = pair["classes"]
        count = f"{pair['mistakes']} ({pair['fraction_of_mistakes']:.1%})"
        assert f"{index + 1}. {first} and {second}: {count}" in texts
        for true, wrong in ((first, second), (second, first)):
            shown = (NAMES.index(true) == LABELS) & (NAMES.index(wrong) == predicted)
            heading = axes.texts[texts.index(f"{true} as {wrong}: {shown.sum()}")]
            x, y = map(int, heading.get_position())
            for example in np.flatnonzero(shown)[:2]:
                expected[y + 2 : y + 30, x : x + 28] = IMAGES[example, ..., 0]
                confidence = next(
                    text for text in axes.texts if text.get_position() == (x + 14, y + 35)
                )
                assert confidence.get_text() == f"{PROBABILITIES[example].max():.0%}"
                x += 30
    np.testing.assert_array_equal(canvas, expected)
    assert pixels(figure).std() > 10


def test_confused_pairs_without_mistakes_and_with_mistakes_in_one_direction():
    labels = PROBABILITIES.argmax(axis=1)
    figure = plots.confused_pairs([], IMAGES, labels, PROBABILITIES, NAMES)
    assert figure.get_suptitle() == "No wrong predictions" and pixels(figure).std() < 10
    labels = np.zeros(40, int)
    pairs = metrics.confused_pairs(labels, PROBABILITIES, NAMES)
    figure = plots.confused_pairs(pairs, IMAGES, labels, PROBABILITIES, NAMES)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "middle as left: 0" in texts and "right as left: 0" in texts
    pixels(figure)


def test_roc_and_precision_recall_curves_show_the_given_points_and_areas():
    curves = metrics.one_versus_rest(LABELS, PROBABILITIES)
    figure = plots.roc_and_precision_recall(curves, NAMES)
    roc, precision_recall = figure.axes
    for index, (name, curve) in enumerate(zip(NAMES, curves, strict=True)):
        np.testing.assert_array_equal(roc.lines[index].get_xdata(), curve.false_positive_rates)
        np.testing.assert_array_equal(roc.lines[index].get_ydata(), curve.true_positive_rates)
        line = precision_recall.lines[index]
        np.testing.assert_array_equal(line.get_xdata(), curve.recalls)
        np.testing.assert_array_equal(line.get_ydata(), curve.precisions)
        assert line.get_color() == roc.lines[index].get_color() == plots.CLASS_COLOURS[index]
        text = figure.legends[0].get_texts()[index].get_text()
        assert text == f"{name} ({curve.roc_auc:.4f}, {curve.average_precision:.3f})"
    assert roc.get_xscale() == "log" and "logarithmic" in roc.get_xlabel()
    start = min(curve.average_precision for curve in curves) - 0.2
    assert max(0, start - 0.1) <= precision_recall.get_ylim()[0] <= max(0, start)
    assert precision_recall.get_ylabel() == f"Precision (from {precision_recall.get_ylim()[0]:g})"
    assert pixels(figure).std() > 10


def test_classes_without_images_have_no_curves():
    labels = np.where(LABELS == 1, 2, LABELS)
    figure = plots.roc_and_precision_recall(metrics.one_versus_rest(labels, PROBABILITIES), NAMES)
    colours = [line.get_color() for line in figure.axes[0].lines]
    assert colours == [plots.CLASS_COLOURS[0], plots.CLASS_COLOURS[2]]
    figure = plots.roc_and_precision_recall([None] * 3, NAMES)
    assert not figure.axes[0].lines and not figure.legends[0].get_texts()
    pixels(figure)


def test_every_class_has_its_own_colour_and_classes_of_a_line_style_differ_in_lightness():
    assert len(plots.CLASS_COLOURS) == len(plots.CLASS_LINES) == len({*plots.CLASS_COLOURS}) == 10
    lightness = {}
    for colour, line in zip(plots.CLASS_COLOURS, plots.CLASS_LINES, strict=True):
        luminance = np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722))
        lightness.setdefault(line, []).append(luminance)
    assert all(np.diff(sorted(values)).min() > 0.1 for values in lightness.values()), lightness


def test_confidence_by_class_omits_bins_with_few_images():
    counts = np.array([[0, 30, 19], [0, 0, 1000]])
    confidences = np.array([[0, 0.5, 0.9], [0, 0, 0.8]])
    accuracies = np.array([[0, 0.4, 0.9], [0, 0, 0.95]])
    figure = plots.confidence_by_class((counts, confidences, accuracies), NAMES[:2])
    axes = figure.axes[0]
    # The first column, which has no bin to plot, is omitted.
    np.testing.assert_allclose(
        axes.images[0].get_array().filled(np.nan), [[-0.1, np.nan], [np.nan, 0.15]]
    )
    assert [text.get_text() for text in axes.texts] == ["40%\n30", "95%\n1,000"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["33–67 %", "67–100 %"]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(NAMES[:2])
    assert axes.get_xlabel() == "Confidence" and axes.get_ylabel() == "Predicted class"
    assert pixels(figure).std() > 10


def test_confidence_by_class_is_drawn_without_any_bin_to_plot():
    figure = plots.confidence_by_class((np.zeros((2, 3)),) * 3, NAMES[:2])
    assert not figure.axes[0].texts and len(figure.axes[0].get_xticklabels()) == 3
    pixels(figure)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_class_bars_show_the_probabilities_beside_each_image(count):
    figure = plots.class_bars(IMAGES[:count], LABELS[:count], PROBABILITIES[:count], NAMES)
    assert len(image_axes(figure)) == count
    bars = [axes for axes in figure.axes if axes.patches]
    for axes, image_probabilities in zip(bars, PROBABILITIES[:count], strict=True):
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], image_probabilities)
    assert pixels(figure).std() > 10


def test_maps_show_the_points_of_every_class_and_mark_mistakes():
    points = {"PCA": RNG.random((40, 2)), "t-SNE": RNG.random((40, 2))}
    figure = plots.maps(points, LABELS, NAMES)
    assert [axes.get_title() for axes in figure.axes] == ["PCA", "t-SNE"]
    assert len(figure.axes[1].collections) == len(NAMES)
    np.testing.assert_array_equal(
        figure.axes[1].collections[2].get_offsets(), points["t-SNE"][LABELS == 2]
    )
    figure = plots.maps(points, LABELS, NAMES, ~CORRECT)
    np.testing.assert_array_equal(
        figure.axes[0].collections[-1].get_offsets(), points["PCA"][~CORRECT]
    )
    assert figure.legends[0].get_texts()[-1].get_text() == "wrong prediction"
