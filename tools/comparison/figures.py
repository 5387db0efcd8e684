"""The figures of a comparison.

A row is the dict of one contestant, as summary.summarise() returns it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from fmnist.figure_style import default_style
from fmnist.source import CLASS_NAMES
from plots import BLUE, RED, heat_map
from tools.comparison.contestants import CONTESTANTS, DEPTHS, REMOVED_COMPONENTS, count

GROUP_STYLES = {
    "networks": (BLUE, "o"),
    "recipes": ("#EE7733", "D"),
    "ablations": ("#33BBEE", "v"),
    "baselines": ("0.45", "s"),
}
CAPTIONS = {
    "accuracy_against_cost": "Test error against training time, on logarithmic axes: networks "
    "(circles), recipes (diamonds) and classical classifiers (squares). Error bars are standard "
    "deviations over the seeds. Training times below one second are drawn at one second.",
    "classes": "Recall of each class on the test set, as a mean over the seeds.",
    "gaps": "Accuracy on the training and the validation set. The difference, in percentage "
    "points, measures overfitting.",
    "confusion_difference": "Difference between the confusion matrices of two contestants on the "
    "test set, as means over the seeds.",
    "without": "Validation accuracy of networks with and without one component. Error bars are "
    "standard deviations over the seeds.",
    "class_activation": "Class activation maps (HiResCAM) of two networks for test images that "
    "only one of them classifies correctly. Yellow to red marks what raises the output for the "
    "predicted class, whose name is blue if it is correct and red if not. Every map has its own "
    "scale.",
    "depth": "Training and validation accuracy of gap_cnn by number of convolutions. Error bars "
    "are standard deviations over the seeds.",
}


@default_style()
def draw(rows: dict[str, dict[str, Any]]) -> dict[str, Figure]:
    """Return the figures by name.

    Args:
        rows: rows by name of the contestant, the best first.
    """
    first, *others = rows.values()
    # The dummy classifier would compress the scale of all others.
    shown = [row for name, row in rows.items() if name != "dummy"] or [first]
    compared = [row for row in shown if row["group"] != "ablations"] or shown
    figures = {
        "accuracy_against_cost": accuracy_against_cost(compared),
        "classes": class_recalls(
            {row["label"]: row["recalls"] for row in rows.values()}, CLASS_NAMES
        ),
        "gaps": gaps(shown),
    }
    if others:
        first, other = compared_pair(list(rows.values()))
        figures["confusion_difference"] = confusion_difference(
            first["confusion"] - other["confusion"], CLASS_NAMES, first["label"], other["label"]
        )
    pairs = {}
    for name, row in rows.items():
        network = CONTESTANTS[name]["model"] if name in REMOVED_COMPONENTS else None
        if network in rows:
            pairs[f"{network}:\n{REMOVED_COMPONENTS[name]}"] = rows[network], row
    if pairs:
        figures["without"] = with_and_without(pairs)
    depths = {number: rows[name] for number, name in enumerate(DEPTHS, 1) if name in rows}
    if len(depths) > 1:
        figures["depth"] = depth(depths)
    return figures


def compared_pair(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the best row, and the row of the recipe classic or else the second best."""
    first, *others = rows
    return first, next((row for row in others if row["name"] == "classic"), others[0])


def accuracy_against_cost(rows: Sequence[dict[str, Any]]) -> Figure:
    """Return the plot of test error against training time.

    Points have numbers instead of names, because names would overlap. A training time below one
    second is drawn at one second.

    Args:
        rows: dicts with label, group, accuracy, accuracy_deviation and seconds.
    """
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows, 1):
        colour, marker = GROUP_STYLES[row["group"]]
        point = max(row["seconds"], 1), 100 * (1 - row["accuracy"])
        axes.errorbar(
            *point,
            yerr=100 * (row["accuracy_deviation"] or 0),
            color=colour,
            marker=marker,
            markersize=5,
            capsize=3,
            linestyle="none",
        )
        axes.annotate(
            str(number), point, xytext=(5, 4), textcoords="offset points", fontsize=9, color=colour
        )
    handles = [
        axes.plot(
            [],
            [],
            color=GROUP_STYLES[row["group"]][0],
            marker=GROUP_STYLES[row["group"]][1],
            linestyle="none",
            markersize=5,
            label=f"{number}  {row['label']}",
        )[0]
        for number, row in enumerate(rows, 1)
    ]
    figure.legend(
        handles=handles,
        loc="outside right upper",
        frameon=False,
        fontsize=9,
        title="Sorted by validation accuracy",
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="Training time, s",
        ylabel="Test error, %",
        title="Test error against training time",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8)))
    axes.grid(alpha=0.3, which="both")
    return figure


def class_recalls(recalls: dict[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Return a heat map of the recall of every class.

    Args:
        recalls: arrays (classes,) in [0, 1] by label of the contestant.
        names: class names.
    """
    percentages = 100 * np.stack(list(recalls.values()))
    texts, size = np.vectorize("{:.1f}".format)(percentages), (11, 0.32 * len(recalls) + 2.4)
    figure = heat_map(
        percentages, texts, percentages <= 85, list(recalls), names, size, "Recall, %", fontsize=8,
        cmap="viridis", vmin=min(50, percentages.max() - 1), vmax=100, aspect="auto",
    )  # fmt: skip
    figure.axes[0].set(title="Recall of each class on the test set, %")
    return figure


def confusion_difference(
    difference: np.ndarray, names: Sequence[str], first: str, other: str
) -> Figure:
    """Return a heat map of the difference between two confusion matrices.

    Args:
        difference: (classes, classes), image counts of `first` minus those of `other`.
        names: class names.
        first: label of the first contestant.
        other: label of the other contestant.
    """
    size, largest = np.abs(difference), max(np.abs(difference).max(), 1)
    texts = np.where(size >= 0.5, np.vectorize("{:+.0f}".format)(difference), "")
    figure = heat_map(
        difference, texts, size > 0.6 * largest, names, names, (8.5, 7),
        "Difference, test images", fontsize=9, cmap="RdBu", vmin=-largest, vmax=largest,
    )  # fmt: skip
    figure.axes[0].set(
        xlabel="Predicted class",
        ylabel="True class",
        title=f"Confusion matrix of {first} minus that of {other}",
    )
    return figure


def gaps(rows: Sequence[dict[str, Any]]) -> Figure:
    """Return the plot of training and validation accuracy with their difference.

    Args:
        rows: dicts with label, train_accuracy and val_accuracy.
    """
    figure = Figure(figsize=(11, 0.32 * len(rows) + 2), layout="constrained")
    axes = figure.subplots()
    for position, row in enumerate(rows):
        axes.plot(
            [100 * row["val_accuracy"], 100 * row["train_accuracy"]],
            [position, position],
            color="0.7",
            zorder=1,
        )
        axes.annotate(
            f"{100 * (row['train_accuracy'] - row['val_accuracy']):+.1f}",
            (100 * row["train_accuracy"], position),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    for key, colour, marker in (("val_accuracy", RED, "o"), ("train_accuracy", BLUE, "D")):
        axes.scatter(
            [100 * row[key] for row in rows],
            range(len(rows)),
            color=colour,
            marker=marker,
            s=28,
            zorder=2,
            label={"val_accuracy": "validation", "train_accuracy": "training"}[key],
        )
    axes.set(
        yticks=range(len(rows)),
        yticklabels=[row["label"] for row in rows],
        xlabel="Accuracy, %",
        title="Training and validation accuracy, with their difference in points",
    )
    axes.margins(x=0.1)
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside lower right", ncols=2, frameon=False)
    return figure


def with_and_without(pairs: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> Figure:
    """Return the plot of validation accuracy with and without a component of a network.

    Args:
        pairs: dicts with epochs, val_accuracy and val_accuracy_deviation, with the component and
            without it, by label of the pair.
    """
    figure = Figure(figsize=(9, 0.75 * len(pairs) + 2), layout="constrained")
    axes = figure.subplots()
    for index, colour, marker, label in ((0, BLUE, "o", "with"), (1, RED, "s", "without")):
        rows = [pair[index] for pair in pairs.values()]
        axes.errorbar(
            [100 * row["val_accuracy"] for row in rows],
            np.arange(len(rows)) + 0.16 * (2 * index - 1),
            xerr=[100 * (row["val_accuracy_deviation"] or 0) for row in rows],
            color=colour,
            marker=marker,
            linestyle="none",
            capsize=3,
            label=label,
        )
    epochs = count(rows[0]["epochs"], "epoch")
    axes.set(
        yticks=range(len(pairs)),
        yticklabels=list(pairs),
        xlabel=f"Validation accuracy after {epochs}, %",
        ylim=(len(pairs) - 0.5, -0.5),
        title="Validation accuracy with and without a component",
    )
    axes.grid(alpha=0.3, axis="x")
    axes.legend()
    return figure


def depth(rows: dict[int, dict[str, Any]]) -> Figure:
    """Return the plot of the accuracy of gap_cnn against its number of convolutions.

    Args:
        rows: dicts with epochs, train_accuracy, val_accuracy and val_accuracy_deviation by number
            of convolutions.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        list(rows),
        [100 * row["train_accuracy"] for row in rows.values()],
        color=BLUE,
        marker="D",
        linestyle="--",
        label="training",
    )
    axes.errorbar(
        list(rows),
        [100 * row["val_accuracy"] for row in rows.values()],
        yerr=[100 * (row["val_accuracy_deviation"] or 0) for row in rows.values()],
        color=RED,
        marker="o",
        capsize=3,
        label="validation",
    )
    epochs = count(next(iter(rows.values()))["epochs"], "epoch")
    axes.set(
        xticks=list(rows),
        xlabel="Number of convolutions",
        ylabel=f"Accuracy after {epochs}, %",
        title="Accuracy of gap_cnn against its number of convolutions",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
