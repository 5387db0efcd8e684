import numpy as np
import pytest

from tests.figures import NAMES, pixels
from tools.comparison import figures

pytestmark = pytest.mark.usefixtures("default_style")

ROWS = [
    {
        "label": label,
        "group": group,
        "epochs": 5,
        "accuracy": accuracy,
        "accuracy_deviation": 0.01,
        "val_accuracy": accuracy + 0.01,
        "val_accuracy_deviation": None,
        "train_accuracy": accuracy + 0.05,
        "seconds": seconds,
    }
    for label, group, accuracy, seconds in (
        ("best", "recipes", 0.94, 900),
        ("deep", "networks", 0.93, 100),
        ("knn", "baselines", 0.85, 1),
    )
]


def test_accuracy_against_cost_labels_points_with_numbers_and_explains_them():
    figure = figures.accuracy_against_cost(ROWS)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "1  best",
        "2  deep",
        "3  knn",
    ]
    assert [tuple(text.xy) for text in axes.texts] == [
        (row["seconds"], 100 * (1 - row["accuracy"])) for row in ROWS
    ]
    assert pixels(figure).std() > 10


def test_gaps_components_and_depths_are_drawn_at_their_accuracies():
    axes = figures.gaps(ROWS).axes[0]
    assert [text.get_text() for text in axes.texts] == ["+4.0"] * 3
    assert [name.get_text() for name in axes.get_yticklabels()] == ["best", "deep", "knn"]
    axes = figures.with_and_without({"deep: dropout": (ROWS[1], ROWS[2])}).axes[0]
    assert axes.get_xlabel() == "Validation accuracy after 5 epochs, %"
    assert [list(line.get_xdata()) for line in axes.lines if line.get_marker() in ("o", "s")] == [
        [94],
        [86],
    ]
    axes = figures.depth({1: ROWS[2], 4: ROWS[1]}).axes[0]
    assert [pytest.approx([90, 98])] == [
        list(line.get_ydata()) for line in axes.lines if line.get_label() == "training"
    ]


def test_recalls_and_confusion_differences_are_written_in_their_cells():
    figure = figures.class_recalls(
        {"first": np.array([1, 0.5, 0.9]), "second": np.array([0.8, 0.7, 0.6])}, NAMES
    )
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "100.0",
        "50.0",
        "90.0",
        "80.0",
        "70.0",
        "60.0",
    ]
    figure = figures.confusion_difference(
        np.array([[3, -3, 0], [0, 0.2, 0], [0, 0, -7]]), NAMES, "first", "second"
    )
    assert [text.get_text() for text in figure.axes[0].texts] == ["+3", "-3", "-7"]
    heat_map = figure.axes[0].images[0]
    assert heat_map.norm.vmin == -heat_map.norm.vmax == -7
