"""The figures of training and evaluation: arrays in, a matplotlib Figure out.

images: (N, 28, 28, 1) in [0, 1]; labels: (N,); probabilities: (N, classes); names: one a class.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fmnist.evaluation import metrics
from fmnist.source import CLASS_NAMES

# Two colours of Paul Tol's vibrant scheme, which every kind of colour vision tells apart.
BLUE, RED = "#0077BB", "#CC3311"
RIGHT, WRONG = BLUE, RED
FEW = 20  # images in a bin, whose accuracy would be chance


def evaluation_figures(
    history: list[dict[str, float]],
    results: dict[str, Any],
    test: tuple[np.ndarray, np.ndarray],
    uncalibrated: np.ndarray,
    probabilities: np.ndarray,
) -> dict[str, Figure]:
    """Return all figures of evaluate_model.py by name.

    Args:
        history: of a run.
        results: of the evaluation.
        test: images and labels of the test set.
        uncalibrated: class probabilities of the test images, without the temperature.
        probabilities: the same with the temperature.
    """
    images, labels = test
    correct = probabilities.argmax(axis=1) == labels
    few = np.concatenate([np.flatnonzero(correct)[:4], np.flatnonzero(~correct)[:4]])
    return {
        "curves": curves(history, results["kept_epoch"]),
        "confusion_matrix": confusion_matrix(np.array(results["confusion_matrix"]), CLASS_NAMES),
        "predictions": predictions(images[:30], labels[:30], probabilities[:30], CLASS_NAMES),
        "correct_and_wrong": correct_and_wrong(images, labels, probabilities, CLASS_NAMES),
        "probabilities": class_bars(images[few], labels[few], probabilities[few], CLASS_NAMES),
        "calibration": calibration(
            metrics.reliability(labels, uncalibrated),
            metrics.reliability(labels, probabilities),
            results["ece"],
            results["calibrated_ece"],
        ),
        "mistakes": mistakes(images, labels, probabilities, CLASS_NAMES),
    }


def curves(history: list[dict[str, float]], chosen_epoch: int) -> Figure:
    """history: dicts with epoch, accuracy, val_accuracy, loss and val_loss."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(epochs) < 3 else None  # a line needs two points to be seen
    for axes, key, title in zip(
        figure.subplots(1, 2), ("accuracy", "loss"), ("Accuracy", "Loss"), strict=True
    ):
        axes.plot(
            epochs,
            [row[key] for row in history],
            color=BLUE,
            marker=marker,
            linestyle="--",
            label="training (while it learns)",
        )
        axes.plot(
            epochs,
            [row[f"val_{key}"] for row in history],
            color=RED,
            marker=marker,
            label="validation",
        )
        axes.axvline(
            chosen_epoch,
            color="0.4",
            linewidth=1,
            linestyle=":",
            label=f"kept: epoch {chosen_epoch}",
        )
        axes.set(xlabel="Epoch", ylabel=title, title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """counts: (classes, classes), rows true, columns predicted. Shaded by the share of the row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = np.where(counts > 0, np.vectorize("{:,}".format)(counts), "")
    figure = heat_map(
        shares, texts, shares > 0.5, names, names, (8, 7), "Share of the true class",
        cmap="Blues", vmin=0, vmax=1,
    )  # fmt: skip
    figure.axes[0].set(
        xlabel="Predicted class", ylabel="True class", title="Confusion matrix (images)"
    )
    return figure


def heat_map(
    values: np.ndarray,
    texts: np.ndarray,
    light_text: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    figsize: tuple[float, float],
    colorbar: str,
    fontsize: float = 10,
    **imshow: Any,
) -> Figure:
    """Return a heat map with a text in every cell and the names of the columns aslant.

    Args:
        values: (rows, columns), shown as colours.
        texts: (rows, columns) of str; "" for none.
        light_text: (rows, columns), whether a text is white, on a dark cell, or black.
        rows: names of the rows.
        columns: names of the columns.
        figsize: in inches.
        colorbar: the label of the colour bar.
        fontsize: of the texts, in points.
        imshow: more arguments of Axes.imshow, such as cmap and vmax.
    """
    figure = Figure(figsize=figsize, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, **imshow)
    for row, column in np.argwhere(texts != ""):
        colour = "white" if light_text[row, column] else "black"
        axes.text(
            column, row, texts[row, column],
            ha="center", va="center", fontsize=fontsize, color=colour,
        )  # fmt: skip
    axes.set(xticks=range(len(columns)), yticks=range(len(rows)), yticklabels=rows)
    axes.set_xticklabels(columns, rotation=40, ha="right", rotation_mode="anchor")
    figure.colorbar(image, label=colorbar, shrink=0.8)
    return figure


def predictions(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    columns: int = 6,
) -> Figure:
    """Every image with its predicted class and confidence, correct in blue, wrong in red."""
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(1.75 * columns, 2.15 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    _fill(grid, images, labels, probabilities, names)
    figure.suptitle(
        "Predicted class and confidence: correct in blue, wrong in red with the true class"
    )
    return figure


def correct_and_wrong(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    columns: int = 4,
    rows: int = 3,
) -> Figure:
    """The first correct images on the left, the first wrong ones on the right."""
    figure = Figure(figsize=(14, 2.15 * rows + 0.5), layout="constrained")
    correct = probabilities.argmax(axis=1) == labels
    for side, chosen, title, colour in zip(
        figure.subfigures(1, 2, wspace=0.05),
        (correct, ~correct),
        ("Correct", "Wrong"),
        (RIGHT, WRONG),
        strict=True,
    ):
        indices = np.flatnonzero(chosen)[: rows * columns]
        side.suptitle(
            f"{title}: {chosen.sum():,} of {len(labels):,}", color=colour, fontweight="bold"
        )
        grid = side.subplots(rows, columns)
        _fill(grid, images[indices], labels[indices], probabilities[indices], names)
    return figure


def mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    columns: int = 6,
    rows: int = 3,
) -> Figure:
    """The wrong predictions that the model was surest of, the surest first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    indices = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][: rows * columns]
    figure = predictions(images[indices], labels[indices], probabilities[indices], names, columns)
    found = len(indices)
    figure.suptitle(f"The {found} most confident mistakes" if found else "No mistakes")
    return figure


def class_bars(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> Figure:
    """Every image beside the probabilities of all classes, the predicted one in colour."""
    columns = 2
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(12, 2.5 * rows), layout="constrained")
    grid = figure.subplots(
        rows, 2 * columns, squeeze=False, width_ratios=[1, 1.6] * columns
    ).reshape(-1, 2)
    for picture, bars in grid[len(images) :]:
        picture.axis("off")
        bars.axis("off")
    for (picture, bars), image, label, shares in zip(
        grid, images, labels, probabilities, strict=False
    ):
        _draw(picture, image, label, shares, names)
        colours = ["0.7"] * len(names)
        colours[shares.argmax()] = RIGHT if shares.argmax() == label else WRONG
        bars.barh(names, shares, color=colours)
        bars.invert_yaxis()
        bars.set(xlim=(0, 1), xlabel="Probability")
        bars.tick_params(labelsize=8)
        bars.get_yticklabels()[label].set_fontweight("bold")
    return figure


def calibration(
    before: tuple[np.ndarray, ...],
    after: tuple[np.ndarray, ...],
    error_before: float,
    error_after: float,
) -> Figure:
    """How often the network is right when it is so sure: as it is, and with the temperature.

    before, after: counts, confidences and accuracies of metrics.reliability(). A bin of few images
        has no point.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    curve, counts = figure.subplots(1, 2)
    curve.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="perfect")
    kinds = (
        (before, error_before, "as trained", RED, "s--"),
        (after, error_after, "with the temperature", BLUE, "o-"),
    )
    for (number, confidence, accuracy), error, name, colour, line in kinds:
        many = number >= FEW
        curve.plot(
            confidence[many],
            accuracy[many],
            line,
            color=colour,
            clip_on=False,
            label=f"{name}, ECE {error:.3f}",
        )
        counts.stairs(
            number,
            np.linspace(0, 1, len(number) + 1),
            color=colour,
            linestyle=line[1:],
            linewidth=1.5,
            label=name,
        )
    curve.set(xlim=(0, 1), ylim=(0, 1), xlabel="Confidence", ylabel="Accuracy", title="Calibration")
    counts.set(
        xlim=(0, 1),
        yscale="log",
        ylim=(0.8, None),
        xlabel="Confidence",
        ylabel="Images",
        title="How sure the network is",
    )
    counts.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (curve, counts):
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
    return figure


def _fill(
    grid: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
) -> None:
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, label, shares in zip(grid.flat, images, labels, probabilities, strict=False):
        _draw(axes, image, label, shares, names)


def _draw(
    axes: Axes, image: np.ndarray, label: int, shares: np.ndarray, names: Sequence[str]
) -> None:
    predicted = shares.argmax()
    correct = predicted == label
    axes.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1)
    axes.axis("off")
    axes.set_title(
        f"{names[predicted]} {shares[predicted]:.0%}"
        + ("\n" if correct else f"\nis {names[label]}"),
        color=RIGHT if correct else WRONG,
        fontsize=10,
    )
