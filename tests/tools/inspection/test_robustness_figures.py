import numpy as np
import pytest

from fmnist.evaluation.corruptions import CORRUPTIONS
from tests.figures import image_arrays, pixels
from tools.inspection import robustness_figures as figures

pytestmark = pytest.mark.usefixtures("default_style")


def scores(accuracy):
    return {"accuracy": accuracy, "confidence": 0.9, "ece": 0.9 - accuracy}


def make_run(accuracy):
    """Return the results of a run that loses accuracy with the severity and the corruption."""
    corrupted = {
        name: [scores(accuracy - 0.02 * index - 0.1 * severity) for severity in range(1, 6)]
        for index, name in enumerate(CORRUPTIONS)
    }
    rows = [row for rows in corrupted.values() for row in rows]
    return {
        "clean": scores(accuracy),
        "corrupted": corrupted,
        "mean_error": 1 - np.mean([row["accuracy"] for row in rows]),
        "mean_ece": np.mean([row["ece"] for row in rows]),
    }


RESULTS = {"runs": {"first": make_run(0.9), "second": make_run(0.8)}}
LABELS = [kind.label for kind in CORRUPTIONS.values()]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_corruption_has_a_panel_with_the_accuracies_of_all_runs():
    figure = figures.accuracies(RESULTS)
    assert [axes.get_title() for axes in figure.axes] == LABELS
    lines = figure.axes[1].lines
    for line, accuracy in zip(lines, (90, 80), strict=True):
        assert list(line.get_xdata()) == [0, 1, 2, 3, 4, 5]
        expected = [accuracy, *(accuracy - 2 - 10 * severity for severity in range(1, 6))]
        np.testing.assert_allclose(line.get_ydata(), expected)
    first, second = lines
    for style in ("color", "marker", "linestyle"):
        assert getattr(first, f"get_{style}")() != getattr(second, f"get_{style}")()
    assert legend(figure) == ["first", "second"] and pixels(figure).std() > 10


def test_errors_are_sorted_and_followed_by_their_mean_and_the_original_images():
    figure = figures.errors(RESULTS)
    error, ece = figure.axes
    assert [tick.get_text() for tick in error.get_yticklabels()] == [
        *LABELS,
        "mean",
        "original images",
    ]
    first = error.lines[0].get_xdata()
    np.testing.assert_allclose(first[:2], [40, 42])
    np.testing.assert_allclose(first[-2:], [54, 10])
    np.testing.assert_allclose(ece.lines[0].get_xdata()[-2:], [44, 0], atol=1e-9)
    assert legend(figure) == ["first", "second"] and pixels(figure).std() > 10
    ends = error.get_ylim()
    assert ends[0] > ends[1]  # the first row is at the top


def test_confidence_has_a_point_for_every_severity_and_one_for_the_original_images():
    figure = figures.confidence(RESULTS)
    _, corrupted, clean, *_ = figure.axes[0].lines
    assert len(corrupted.get_xdata()) == 5 * len(CORRUPTIONS)
    np.testing.assert_allclose([clean.get_xdata(), clean.get_ydata()], [[90], [90]])
    assert clean.get_markersize() > corrupted.get_markersize()
    assert legend(figure) == ["first", "second"] and pixels(figure).std() > 10


def test_a_single_run_needs_no_legend():
    results = {"runs": {"only": make_run(0.9)}}
    for draw in (figures.accuracies, figures.errors, figures.confidence):
        assert not draw(results).legends


def test_examples_show_the_original_and_all_severities():
    rng = np.random.default_rng(0)
    examples = {name: list(rng.random((6, 28, 28, 1))) for name in CORRUPTIONS}
    figure = figures.example_images(examples)
    shown = image_arrays(figure)
    assert len(shown) == 6 * len(CORRUPTIONS)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert set(texts) == {*LABELS, "original", *"12345"}
    # The corruptions are in the order of columns, the axes in the order of rows.
    np.testing.assert_array_equal(shown[1], examples["gaussian_noise"][1][..., 0])
    assert pixels(figure).std() > 10


def test_examples_are_of_all_classes():
    labels = np.array([3, 3, 1, 0, 2])
    indices = figures.example_indices(labels)
    assert list(indices) == list(CORRUPTIONS)
    assert list(indices.values())[:6] == [3, 2, 4, 0, 3, 2]


def test_up_to_28_runs_have_different_styles():
    styles = figures.styles([str(index) for index in range(28)])
    assert len({(style["color"], style["linestyle"]) for style in styles.values()}) == 28
