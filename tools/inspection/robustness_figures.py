"""The figures of the robustness of networks.

Common argument:
    results: content of robustness.json, see robustness.measure().
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fmnist.evaluation.corruptions import CORRUPTIONS, SEVERITIES
from fmnist.figure_style import default_style
from plots import BLUE, RED

# Colours of Paul Tol's vibrant scheme, which is safe for colour-blind readers.
COLOURS = (BLUE, RED, "#009988", "#EE7733", "#33BBEE", "#EE3377", "0.4")
MARKERS = "osD^vPX"
LINES = ("-", "--", "-.", ":")
COLUMNS = 5  # panels side by side
CAPTIONS = {
    "robustness_accuracy": "Accuracy on the test set against the severity of a corruption; "
    "severity 0 is the original image.",
    "robustness_errors": "Error and expected calibration error (ECE) on the test set under each "
    "corruption, as means over the five severities. The calibration error is that after "
    "calibration, with a temperature fitted on original validation images.",
    "robustness_confidence": "Mean confidence against accuracy on the test set: one point for each "
    "corruption and severity, and a large point with a black edge for the original images. Above "
    "the line, the network is overconfident.",
    "robustness_examples": "A test image under each corruption. Columns are the original and the "
    "severities 1 to 5. Unlike in other figures, images are light on black, as in the data set.",
}


@default_style()
def draw(results: dict[str, Any], examples: dict[str, Sequence[np.ndarray]]) -> dict[str, Figure]:
    """Return the figures by name.

    Args:
        results: see above.
        examples: an image (28, 28, 1) by corruption: the original, then one per severity.
    """
    return {
        "robustness_accuracy": accuracies(results),
        "robustness_errors": errors(results),
        "robustness_confidence": confidence(results),
        "robustness_examples": example_images(examples),
    }


def example_indices(labels: np.ndarray) -> dict[str, int]:
    """Return the index of the image that is an example of each corruption.

    The classes take turns.

    Args:
        labels: (N,), with at least one image of every class.
    """
    classes = itertools.cycle(np.unique(labels))
    return {
        name: int(np.flatnonzero(labels == label)[0])
        for name, label in zip(CORRUPTIONS, classes, strict=False)
    }


def styles(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the arguments of Axes.plot for the line of every run."""
    cycles = zip(*map(itertools.cycle, (COLOURS, MARKERS, LINES)), strict=False)
    return {
        label: {"color": colour, "marker": marker, "linestyle": line, "markersize": 5}
        for label, (colour, marker, line) in zip(labels, cycles, strict=False)
    }


def accuracies(results: dict[str, Any]) -> Figure:
    """Return the plot of accuracy against severity, with a panel for each corruption."""
    rows = -(-len(CORRUPTIONS) // COLUMNS)
    figure = Figure(figsize=(2.3 * COLUMNS, 2.1 * rows + 0.9), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axes, (name, kind) in zip(panels.flat, CORRUPTIONS.items(), strict=True):
        for label, style in styles(results["runs"]).items():
            run = results["runs"][label]
            scores = [run["clean"], *run["corrupted"][name]]
            axes.plot(
                (0, *SEVERITIES), [100 * row["accuracy"] for row in scores], label=label, **style
            )
        axes.set(title=kind.label, xticks=(0, *SEVERITIES), ylim=(0, 100))
        axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("Severity")
    for axes in panels[:, 0]:
        axes.set_ylabel("Accuracy, %")
    add_legend(figure, axes)
    return figure


def errors(results: dict[str, Any]) -> Figure:
    """Return the plot of error and calibration error under each corruption, sorted by error."""
    networks = results["runs"].values()
    groups = {
        kind.label: [run["corrupted"][name] for run in networks]
        for name, kind in CORRUPTIONS.items()
    }
    groups = dict(sorted(groups.items(), key=lambda item: -means([item[1]], "accuracy").mean()))
    groups["mean"] = [
        [row for rows in run["corrupted"].values() for row in rows] for run in networks
    ]
    groups["original images"] = [[run["clean"]] for run in networks]
    positions = np.arange(len(groups))

    figure = Figure(figsize=(10, 0.3 * len(groups) + 1.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, values, title in zip(
        panels,
        (1 - means(groups.values(), "accuracy"), means(groups.values(), "ece")),
        ("Error, %", "Expected calibration error (ECE), %"),
        strict=True,
    ):
        # The points of the runs are a little below each other, so that none is hidden.
        offsets = np.linspace(-0.2, 0.2, len(networks)) if len(networks) > 1 else [0]
        for column, offset, (label, style) in zip(
            values.T, offsets, styles(results["runs"]).items(), strict=True
        ):
            style["linestyle"] = "none"
            axes.plot(100 * column, positions + offset, label=label, **style)
        axes.axhline(len(CORRUPTIONS) - 0.5, color="0.4", linewidth=0.8)
        axes.set(yticks=positions, yticklabels=groups, xlabel=title, xlim=(0, None))
        axes.grid(alpha=0.3)
    panels[0].set_ylim(len(groups) - 0.5, -0.5)
    add_legend(figure, axes)
    return figure


def means(groups: Iterable[Sequence[Sequence[dict[str, float]]]], key: str) -> np.ndarray:
    """Return the means of a score (groups, runs).

    Args:
        groups: for every group, one list of scores for each run.
        key: name of the score.
    """
    return np.array([[np.mean([row[key] for row in rows]) for rows in by_run] for by_run in groups])


def confidence(results: dict[str, Any]) -> Figure:
    """Return the plot of mean confidence against accuracy, with a point for each severity."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color="0.4", linewidth=1)
    for label, style in styles(results["runs"]).items():
        run = results["runs"][label]
        rows = [row for scores in run["corrupted"].values() for row in scores]
        style["linestyle"] = "none"
        for scores, options in (
            (rows, {"alpha": 0.6}),
            ([run["clean"]], {"markersize": 11, "markeredgecolor": "black"}),
        ):
            axes.plot(
                [100 * row["accuracy"] for row in scores],
                [100 * row["confidence"] for row in scores],
                **style | options,
            )
        axes.plot([], [], label=label, **style)
    axes.set(
        xlim=(0, 100),
        ylim=(0, 100),
        aspect="equal",
        xlabel="Accuracy, %",
        ylabel="Mean confidence, %",
    )
    axes.grid(alpha=0.3)
    add_legend(figure, axes)
    return figure


def example_images(examples: dict[str, Sequence[np.ndarray]]) -> Figure:
    """Return the figure of corrupted images. Arguments: see draw()."""
    columns = 2
    rows = -(-len(examples) // columns)
    figure = Figure(figsize=(11, 0.74 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    heads = "original", *map(str, SEVERITIES)
    for axes in panels[0]:
        for position, head in enumerate(heads):
            axes.text(position + 0.48, -0.08, head, ha="center", va="bottom", fontsize=10)
    for axes, (name, images) in zip(panels.T.flat, examples.items(), strict=False):
        # An axes per image would take several times as long.
        for position, image in enumerate(images):
            extent = position, position + 0.96, 0.96, 0
            axes.imshow(image[..., 0], extent=extent, cmap="gray", vmin=0, vmax=1)
        axes.text(-0.1, 0.5, CORRUPTIONS[name].label, ha="right", va="center", fontsize=10)
        axes.set(xlim=(-1.4, len(images)), ylim=(1, 0), aspect="equal")
    return figure


def add_legend(figure: Figure, axes: Any) -> None:
    """Add a legend of the runs under the panels of a figure, if there are several."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False
        )
