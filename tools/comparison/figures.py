"""The figures of a comparison. A row is a dict as summary.summarise() returns it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fmnist.source import CLASS_NAMES
from plots import BLUE, RED, heat_map
from tools.comparison.contestants import DEPTHS

GROUP_STYLES = {
    "networks": (BLUE, "o"),
    "recipes": ("#EE7733", "D"),
    "ablations": ("#33BBEE", "v"),
    "baselines": ("0.45", "s"),
}
CAPTIONS = {
    "accuracy_against_cost": "Test error against the seconds of training; the bars are standard "
    "deviations over seeds.",
    "classes": "Of the test images of each class, the share that was recognised.",
    "gaps": "How much more accurate a model is on images that it was trained on than on the "
    "validation images.",
    "confusion_difference": "By how many test images two confusion matrices differ, in the mean "
    "over seeds.",
    "without": "Validation accuracy with a part of the network and without it.",
    "depth": "Validation accuracy of gap_cnn against the number of its convolutions.",
}


def draw(rows: dict[str, dict[str, Any]]) -> dict[str, Figure]:
    """Return the figures by name. rows: by the name of the contestant."""
    first, *others = rows.values()
    # What only guesses would squeeze all others into a line.
    shown = [row for name, row in rows.items() if name != "dummy"] or [first]
    compared = [row for row in shown if row["group"] != "ablations"] or shown
    figures = {
        "accuracy_against_cost": accuracy_against_cost(compared),
        "classes": class_recalls({name: row["recalls"] for name, row in rows.items()}, CLASS_NAMES),
        "gaps": gaps(shown),
    }
    if others:
        other = rows.get("classic", others[0])
        other = others[0] if other is first else other
        figures["confusion_difference"] = confusion_difference(
            first["confusion"] - other["confusion"], CLASS_NAMES, first["name"], other["name"]
        )
    pairs = {
        name: (rows[name.partition("-without-")[0]], row)
        for name, row in rows.items()
        if "-without-" in name and name.partition("-without-")[0] in rows
    }
    if pairs:
        figures["without"] = with_and_without(pairs)
    depths = {number: rows[name] for number, name in enumerate(DEPTHS, 1) if name in rows}
    if len(depths) > 1:
        figures["depth"] = depth(depths)
    return figures


def accuracy_against_cost(rows: Sequence[dict[str, Any]]) -> Figure:
    """Return error against cost, with numbered points, as names would collide.

    rows: dicts with label, group, accuracy, accuracy_deviation and seconds.
    What is trained in less than a second stands at one.
    """
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows, 1):
        colour, marker = GROUP_STYLES[row["group"]]
        place = max(row["seconds"], 1), 100 * (1 - row["accuracy"])
        axes.errorbar(
            *place,
            yerr=100 * (row["accuracy_deviation"] or 0),
            color=colour,
            marker=marker,
            markersize=5,
            capsize=3,
            linestyle="none",
        )
        axes.annotate(
            str(number), place, xytext=(5, 4), textcoords="offset points", fontsize=9, color=colour
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
        title="By validation accuracy",
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="Training, seconds",
        ylabel="Test error, %",
        title="Error against cost",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.grid(alpha=0.3, which="both")
    return figure


def class_recalls(recalls: dict[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Return a heat map. recalls: arrays (classes,) by the name of the model."""
    shares = 100 * np.stack(list(recalls.values()))
    texts, size = np.vectorize("{:.1f}".format)(shares), (11, 0.32 * len(recalls) + 2.4)
    figure = heat_map(
        shares, texts, shares <= 85, list(recalls), names, size, "Recall, %", fontsize=8,
        cmap="viridis", vmin=min(50, shares.max() - 1), vmax=100, aspect="auto",
    )  # fmt: skip
    figure.axes[0].set(title="Recognised images of each class, %")
    return figure


def confusion_difference(
    difference: np.ndarray, names: Sequence[str], first: str, other: str
) -> Figure:
    """Return a heat map. difference: (classes, classes), counts of `first` less `other`."""
    size, largest = np.abs(difference), max(np.abs(difference).max(), 1)
    texts = np.where(size >= 0.5, np.vectorize("{:+.0f}".format)(difference), "")
    figure = heat_map(
        difference, texts, size > 0.6 * largest, names, names, (8.5, 7), "Test images", fontsize=9,
        cmap="RdBu", vmin=-largest, vmax=largest,
    )  # fmt: skip
    figure.axes[0].set(
        xlabel="Predicted class",
        ylabel="True class",
        title=f"Images more in {first} than in {other}",
    )
    return figure


def gaps(rows: Sequence[dict[str, Any]]) -> Figure:
    """rows: dicts with label, train_accuracy and val_accuracy."""
    figure = Figure(figsize=(9, 0.32 * len(rows) + 2), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.plot(
            [100 * row["val_accuracy"], 100 * row["train_accuracy"]],
            [place, place],
            color="0.7",
            zorder=1,
        )
        axes.text(
            100 * row["train_accuracy"] + 0.4,
            place,
            f"{100 * (row['train_accuracy'] - row['val_accuracy']):+.1f}",
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
        title="From validation to training images",
    )
    axes.margins(x=0.1)
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside lower right", ncols=2, frameon=False)
    return figure


def with_and_without(pairs: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> Figure:
    """Return accuracies with a part of a network and without it.

    pairs: dicts with label, val_accuracy and val_accuracy_deviation, with the part and without.
    """
    figure = Figure(figsize=(9, 0.75 * len(pairs) + 2), layout="constrained")
    axes = figure.subplots()
    for number, colour, marker, label in ((0, BLUE, "o", "with"), (1, RED, "s", "without")):
        rows = [pair[number] for pair in pairs.values()]
        axes.errorbar(
            [100 * row["val_accuracy"] for row in rows],
            np.arange(len(rows)) + 0.16 * (2 * number - 1),
            xerr=[100 * (row["val_accuracy_deviation"] or 0) for row in rows],
            color=colour,
            marker=marker,
            linestyle="none",
            capsize=3,
            label=label,
        )
    axes.set(
        yticks=range(len(pairs)),
        yticklabels=[name.replace("-", " ") for name in pairs],
        xlabel="Validation accuracy, %",
        ylim=(len(pairs) - 0.5, -0.5),
        title="With a part, and without it",
    )
    axes.grid(alpha=0.3, axis="x")
    axes.legend()
    return figure


def depth(rows: dict[int, dict[str, Any]]) -> Figure:
    """Return accuracy against the number of convolutions, by which rows are named."""
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
    axes.set(
        xticks=list(rows),
        xlabel="Convolutions of gap_cnn",
        ylabel="Accuracy, %",
        title="Accuracy against the number of convolutions",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
