"""Figures of training and evaluation.

The functions take arrays and return matplotlib figures. Common arguments:
    images: (N, 28, 28, 1) in [0, 1].
    labels: true classes (N,).
    probabilities: class probabilities (N, classes).
    names: class names.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from fmnist.evaluation import metrics
from fmnist.figure_style import default_style
from fmnist.source import CLASS_NAMES

# Two colours of Paul Tol's vibrant scheme, which is safe for colour-blind readers.
BLUE, RED = "#0077BB", "#CC3311"
CORRECT_COLOUR, WRONG_COLOUR = BLUE, RED
# One colour and one line style per class: the muted scheme of Paul Tol and black. Colours with the
# same line style differ in lightness.
CLASS_COLOURS = (
    "#CC6677",
    "#332288",
    "#DDCC77",
    "#117733",
    "#88CCEE",
    "#882255",
    "#44AA99",
    "#999933",
    "#AA4499",
    "#000000",
)
CLASS_LINES = ("-", "-", "-", "--", "--", "-.", "--", "-.", ":", ":")
GREYSCALE = {"cmap": "gray_r", "vmin": 0, "vmax": 1}
MIN_BIN_IMAGES = 20  # the accuracy of a bin with fewer images is too uncertain to plot


@default_style()
def evaluation_figures(
    history: list[dict[str, float]],
    results: dict[str, Any],
    test: tuple[np.ndarray, np.ndarray],
    uncalibrated: np.ndarray,
    probabilities: np.ndarray,
    training_conditions: Sequence[str],
) -> dict[str, Figure]:
    """Return all figures of evaluate_model.py by name.

    Args:
        history: training history of the run.
        results: metrics of the evaluation.
        test: images and labels of the test set.
        uncalibrated: class probabilities of the test images before calibration.
        probabilities: class probabilities of the test images after calibration.
        training_conditions: see curves().
    """
    images, labels = test
    correct = probabilities.argmax(axis=1) == labels
    examples = np.concatenate([np.flatnonzero(correct)[:4], np.flatnonzero(~correct)[:4]])
    return {
        "curves": curves(history, results["kept_epoch"], training_conditions),
        "confusion_matrix": confusion_matrix(np.array(results["confusion_matrix"]), CLASS_NAMES),
        "predictions": predictions(images[:30], labels[:30], probabilities[:30], CLASS_NAMES),
        "correct_and_wrong": correct_and_wrong(images, labels, probabilities, CLASS_NAMES),
        "probabilities": class_bars(
            images[examples], labels[examples], probabilities[examples], CLASS_NAMES
        ),
        "calibration": calibration(
            metrics.reliability(labels, uncalibrated),
            metrics.reliability(labels, probabilities),
            results["ece"],
            results["calibrated_ece"],
        ),
        "mistakes": mistakes(images, labels, probabilities, CLASS_NAMES),
        "confused_pairs": confused_pairs(
            results["confused_pairs"], images, labels, probabilities, CLASS_NAMES
        ),
        "roc_and_precision_recall": roc_and_precision_recall(
            metrics.one_versus_rest(labels, probabilities), CLASS_NAMES
        ),
        "confidence_by_class": confidence_by_class(
            metrics.reliability_by_class(labels, probabilities), CLASS_NAMES
        ),
    }


def curves(
    history: list[dict[str, float]], saved_epoch: int, training_conditions: Sequence[str]
) -> Figure:
    """Plot accuracy and loss over the epochs, and the learning rate if it changes.

    Args:
        history: a dict per epoch with epoch, accuracy, val_accuracy, loss, val_loss and
            learning_rate.
        saved_epoch: the epoch whose weights were saved.
        training_conditions: what makes training harder than validation, such as "dropout".
    """
    epochs, rates = ([row[key] for row in history] for key in ("epoch", "learning_rate"))
    marker = "o" if len(epochs) < 3 else None  # a line through a single point is invisible
    conditions = ", with " + " and ".join(training_conditions) if training_conditions else ""
    if len(set(rates)) > 1:
        figure = Figure(figsize=(12, 4), layout="constrained")
        *panels, rate_panel = figure.subplots(1, 3, width_ratios=(3, 3, 2))
        rate_panel.plot(epochs, rates, color="0.2", marker=".")
        rate_panel.set(
            ylabel="Learning rate at the end of the epoch", title="Learning rate", ylim=(0, None)
        )
    else:
        figure = Figure(figsize=(10, 4), layout="constrained")
        panels = figure.subplots(1, 2)
    for axes, key, title in zip(panels, ("accuracy", "loss"), ("Accuracy", "Loss"), strict=True):
        axes.plot(
            epochs,
            [row[key] for row in history],
            color=BLUE,
            marker=marker,
            linestyle="--",
            label=f"training{conditions}",
        )
        axes.plot(
            epochs,
            [row[f"val_{key}"] for row in history],
            color=RED,
            marker=marker,
            label="validation",
        )
        axes.axvline(
            saved_epoch,
            color="0.4",
            linewidth=1,
            linestyle=":",
            label=f"saved weights (epoch {saved_epoch})",
        )
        axes.set(ylabel=title, title=f"{title} during training")
        axes.legend()
    for axes in figure.axes:
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    return figure


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Plot a confusion matrix, coloured by the fraction of the true class.

    Args:
        counts: (classes, classes), true classes in rows, predicted classes in columns.
        names: class names.
    """
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = np.where(counts > 0, np.vectorize("{:,}".format)(counts), "")
    figure = heat_map(
        fractions, texts, fractions > 0.5, names, names, (8, 7), "Fraction of the true class",
        cmap="Blues", vmin=0, vmax=1,
    )  # fmt: skip
    figure.axes[0].set(
        xlabel="Predicted class",
        ylabel="True class",
        title="Confusion matrix (number of test images)",
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
    """Plot a heat map with a text in every cell.

    Args:
        values: (rows, columns), shown as colours.
        texts: (rows, columns) of str; "" leaves a cell without text.
        light_text: (rows, columns) of bool, whether the text is white (on a dark cell) or black.
        rows: row labels.
        columns: column labels.
        figsize: width and height of the figure in inches.
        colorbar: label of the colour bar.
        fontsize: font size of the texts in points.
        imshow: further arguments of Axes.imshow, such as cmap and vmax.
    """
    figure = Figure(figsize=figsize, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, **imshow)
    for row, column in np.argwhere(texts != ""):
        colour = "white" if light_text[row, column] else "black"
        axes.text(
            column, row, texts[row, column],
            ha="center", va="center", fontsize=fontsize, color=colour,
            in_layout=False,  # inside the axes; measuring it would take time
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
    """Show every image with its predicted class and confidence, and the true class if wrong."""
    rows = max(1, -(-len(images) // columns))
    height = 2.15 * rows + 0.5
    figure = Figure(figsize=(1.75 * columns, height))
    axes = figure.add_axes((0, 0, 1, 1 - 0.4 / height))
    _draw_images(axes, (rows, columns), images, labels, probabilities, names)
    figure.suptitle("Predicted class and confidence (blue: correct, red: wrong)")
    return figure


def correct_and_wrong(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    columns: int = 4,
    rows: int = 3,
) -> Figure:
    """Show the first correct predictions on the left and the first wrong ones on the right."""
    height = 1.65 * rows + 0.5
    figure = Figure(figsize=(11, height))
    correct = probabilities.argmax(axis=1) == labels
    for x, selected, title, colour in (
        (0, correct, "Correct predictions", CORRECT_COLOUR),
        (0.51, ~correct, "Wrong predictions", WRONG_COLOUR),
    ):
        axes = figure.add_axes((x, 0, 0.49, 1 - 0.4 / height))
        indices = np.flatnonzero(selected)[: rows * columns]
        selection = images[indices], labels[indices], probabilities[indices]
        _draw_images(axes, (rows, columns), *selection, names)
        axes.set_title(
            f"{title}: {selected.sum():,} of {len(labels):,}", color=colour, fontweight="bold"
        )
    return figure


def mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    columns: int = 6,
    rows: int = 3,
) -> Figure:
    """Show the wrong predictions with the highest confidence, in descending order."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    indices = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][: rows * columns]
    figure = predictions(images[indices], labels[indices], probabilities[indices], names, columns)
    count = len(indices)
    figure.suptitle(
        f"The {count} wrong predictions with the highest confidence"
        if count
        else "No wrong predictions"
    )
    return figure


def class_bars(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> Figure:
    """Plot the class probabilities beside each image; the predicted class is coloured."""
    columns = 2
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(12, 2.5 * rows))
    figure.subplots_adjust(
        left=0, right=0.985, bottom=0.18 / rows, top=1 - 0.18 / rows, wspace=0.35, hspace=0.5
    )
    grid = figure.subplots(
        rows, 2 * columns, squeeze=False, width_ratios=[1, 1.6] * columns
    ).reshape(-1, 2)
    for image_axes, bar_axes in grid[len(images) :]:
        image_axes.axis("off")
        bar_axes.axis("off")
    for (image_axes, bar_axes), image, label, image_probabilities in zip(
        grid, images, labels, probabilities, strict=False
    ):
        title, colour = _title(label, image_probabilities, names)
        image_axes.imshow(image[..., 0], **GREYSCALE)
        image_axes.axis("off")
        image_axes.set_title(title, color=colour, fontsize=10)
        colours = ["0.7"] * len(names)
        colours[image_probabilities.argmax()] = colour
        bar_axes.barh(names, image_probabilities, color=colours)
        bar_axes.invert_yaxis()
        bar_axes.set(xlim=(0, 1), xlabel="Class probability")
        bar_axes.tick_params(labelsize=8)
        bar_axes.get_yticklabels()[label].set_fontweight("bold")
    return figure


def calibration(
    before: tuple[np.ndarray, ...],
    after: tuple[np.ndarray, ...],
    error_before: float,
    error_after: float,
) -> Figure:
    """Plot a reliability diagram and a confidence histogram, before and after calibration.

    Args:
        before: counts, confidences and accuracies of the bins, from metrics.reliability(), before
            calibration. Bins with fewer than MIN_BIN_IMAGES images are not plotted.
        after: counts, confidences and accuracies of the bins after calibration.
        error_before: expected calibration error (ECE) before calibration.
        error_after: ECE after calibration.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    diagram, histogram = figure.subplots(1, 2)
    diagram.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="perfect calibration")
    stages = (
        (before, error_before, "before calibration", RED, "s--"),
        (after, error_after, "after calibration", BLUE, "o-"),
    )
    for (counts, confidences, accuracies), error, label, colour, line in stages:
        plotted = counts >= MIN_BIN_IMAGES
        diagram.plot(
            confidences[plotted],
            accuracies[plotted],
            line,
            color=colour,
            clip_on=False,
            label=f"{label} (ECE {error:.3f})",
        )
        histogram.stairs(
            counts,
            np.linspace(0, 1, len(counts) + 1),
            color=colour,
            linestyle=line[1:],
            linewidth=1.5,
            label=label,
        )
    diagram.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="Confidence",
        ylabel="Accuracy",
        title="Reliability diagram",
    )
    histogram.set(
        xlim=(0, 1),
        yscale="log",
        ylim=(0.8, None),
        xlabel="Confidence",
        ylabel="Number of test images",
        title="Confidence histogram",
    )
    histogram.yaxis.set_major_formatter("{x:,.0f}")
    histogram.yaxis.set_minor_formatter("")
    for axes in (diagram, histogram):
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
    return figure


def maps(
    points: dict[str, np.ndarray],
    labels: np.ndarray,
    names: Sequence[str],
    wrong: np.ndarray | None = None,
) -> Figure:
    """Plot images in two dimensions, coloured by their class.

    Args:
        points: coordinates (N, 2) by name of the method.
        labels: true classes (N,).
        names: class names.
        wrong: whether the prediction is wrong (N,), which is marked; None marks nothing.
    """
    figure = Figure(figsize=(13, 6.5), layout="constrained")
    panels = figure.subplots(1, len(points))
    for axes, (method, coordinates) in zip(panels, points.items(), strict=True):
        for label, (name, colour) in enumerate(zip(names, CLASS_COLOURS, strict=False)):
            axes.scatter(
                *coordinates[labels == label].T,
                s=4,
                color=colour,
                alpha=0.5,
                linewidths=0,
                label=name,
            )
        if wrong is not None:
            axes.scatter(
                *coordinates[wrong].T,
                s=14,
                facecolors="none",
                edgecolors=WRONG_COLOUR,
                linewidths=0.8,
                label="wrong prediction",
            )
        axes.set(title=method, xticks=[], yticks=[])
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    for handle in legend.legend_handles:
        handle.set_alpha(1)
        handle.set_sizes([60])
    return figure


def confused_pairs(
    pairs: Sequence[dict[str, Any]],
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    columns: int = 2,
    examples: int = 3,
) -> Figure:
    """Show pairs of classes with their first mistakes in both directions and their confidence.

    Args:
        pairs: from metrics.confused_pairs().
        images: see above.
        labels: see above.
        probabilities: see above.
        names: class names.
        columns: number of pairs per row.
        examples: maximum number of images per direction.
    """
    rows = max(1, -(-len(pairs) // columns))
    # In pixels of the images: the sizes of an image with its margin and of a pair with its texts.
    size, step = images.shape[1], images.shape[1] + 2
    width, height = (2 * examples + 1) * step, size + 26
    figure_width, title_height = 11.5, 0.75  # inches
    figure_height = figure_width * rows * height / (columns * width) + title_height
    figure = Figure(figsize=(figure_width, figure_height))
    axes = figure.add_axes((0, 0, 1, 1 - title_height / figure_height))
    axes.axis("off")
    # All images are drawn as one, which is faster than one by one.
    canvas = np.zeros((rows * height, columns * width))
    predicted = probabilities.argmax(axis=1)
    for index, pair in enumerate(pairs):
        first, second = pair["classes"]
        left, top = index % columns * width + step // 2, index // columns * height
        title = f"{index + 1}. {first} and {second}: {pair['mistakes']:,}"
        axes.text(left, top + 5, f"{title} ({pair['fraction_of_mistakes']:.1%})", fontweight="bold")
        for true, wrong, count in zip(
            (first, second), (second, first), pair["mistakes_by_true_class"], strict=True
        ):
            axes.text(left, top + 12, f"{true} as {wrong}: {count:,}", fontsize=9)
            shown = (labels == names.index(true)) & (predicted == names.index(wrong))
            for place, example in enumerate(np.flatnonzero(shown)[:examples]):
                x = left + place * step
                canvas[top + 14 : top + 14 + size, x : x + size] = images[example, ..., 0]
                confidence = f"{probabilities[example].max():.0%}"
                axes.text(x + size / 2, top + size + 19, confidence, fontsize=9, ha="center")
            left += (examples + 1) * step - step // 2
    axes.imshow(
        canvas,
        extent=(0, columns * width, rows * height, 0),
        interpolation="nearest",
        **GREYSCALE,
    )
    figure.suptitle(
        "Most confused pairs of classes: mistakes in both directions (fraction of all mistakes)\n"
        "Examples: true class as predicted class, with the confidence of the prediction"
        if pairs
        else "No wrong predictions"
    )
    return figure


def roc_and_precision_recall(
    curves: Sequence[metrics.OneVersusRest | None], names: Sequence[str]
) -> Figure:
    """Plot the ROC curve and the precision-recall curve of every class against the rest.

    The curves of a good network lie in the corner of the usual axes. Therefore the false positive
    rate is logarithmic, and the axes of recall and precision start above 0.

    Args:
        curves: from metrics.one_versus_rest(); classes without curves are omitted.
        names: class names.
    """
    figure = Figure(figsize=(12, 6))
    figure.subplots_adjust(left=0.05, right=0.985, bottom=0.25, top=0.95, wspace=0.14)
    roc, precision_recall = figure.subplots(1, 2)
    for curve, name, colour, line in zip(curves, names, CLASS_COLOURS, CLASS_LINES, strict=False):
        if curve is None:
            continue
        style = {"color": colour, "linestyle": line, "linewidth": 1.5}
        roc.plot(
            curve.false_positive_rates,
            curve.true_positive_rates,
            label=f"{name} ({curve.roc_auc:.4f}, {curve.average_precision:.3f})",
            **style,
        )
        precision_recall.plot(curve.recalls, curve.precisions, **style)
    lowest = min((curve.average_precision for curve in curves if curve), default=0)
    start = max(0, math.floor(10 * lowest - 2) / 10)
    roc.set(
        xscale="log",
        xlim=(1e-4, 1),
        ylim=(0, 1.01),
        xlabel="False positive rate (logarithmic, from 0.0001)",
        ylabel="True positive rate",
        title="ROC curves",
    )
    roc.xaxis.set_major_formatter("{x:g}")
    roc.xaxis.set_minor_locator(NullLocator())
    precision_recall.set(
        xlim=(start, 1.001),
        ylim=(start, 1.005),
        xlabel=f"Recall (from {start:g})",
        ylabel=f"Precision (from {start:g})",
        title="Precision-recall curves",
    )
    for axes in (roc, precision_recall):
        axes.grid(alpha=0.3)
    figure.legend(
        handles=roc.lines,
        title="Class against the rest (area under the ROC curve, average precision)",
        loc="lower center",
        ncols=4,
        handlelength=3,
    )
    return figure


def confidence_by_class(reliability: tuple[np.ndarray, ...], names: Sequence[str]) -> Figure:
    """Plot the accuracy of every predicted class in bins of the confidence.

    The colour is the accuracy minus the mean confidence of the bin. Bins with fewer than
    MIN_BIN_IMAGES images are empty.

    Args:
        reliability: counts, confidences and accuracies (classes, bins), from
            metrics.reliability_by_class().
        names: class names.
    """
    # Omit the columns of low confidence in which no class has a bin with enough images.
    start = (reliability[0] >= MIN_BIN_IMAGES).any(axis=0).argmax()
    counts, confidences, accuracies = (values[:, start:] for values in reliability)
    plotted = counts >= MIN_BIN_IMAGES
    limits = np.linspace(0, 100, reliability[0].shape[1] + 1)[start:]
    differences = np.where(plotted, accuracies - confidences, np.nan)
    largest = 0.2  # of the colour scale
    figure = heat_map(
        differences,
        np.where(plotted, np.vectorize("{:.0%}\n{:,}".format)(accuracies, counts), ""),
        np.abs(differences) > 0.65 * largest,
        names,
        [f"{low:.0f}–{high:.0f} %" for low, high in itertools.pairwise(limits)],
        (9, 6.5), "Accuracy minus mean confidence (red: overconfident)", fontsize=9,
        cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto",
    )  # fmt: skip
    figure.axes[0].set(
        xlabel="Confidence",
        ylabel="Predicted class",
        title="Accuracy and number of images by predicted class and confidence",
    )
    return figure


def _draw_images(
    axes: Axes,
    shape: tuple[int, int],
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
) -> None:
    """Draw up to rows · columns images with their titles in one axes.

    An axes per image would take several times as long.
    """
    rows, columns = shape
    width, height, title_height = 1.1, 1.35, 0.33  # of a cell, in image widths
    for index, image in enumerate(images):
        x, y = index % columns * width, index // columns * height + title_height
        axes.imshow(image[..., 0], extent=(x, x + 1, y + 1, y), **GREYSCALE)
        title, colour = _title(labels[index], probabilities[index], names)
        axes.text(x + 0.5, y - 0.04, title, color=colour, fontsize=10, ha="center", va="bottom")
    axes.set(xlim=(1 - width, columns * width), ylim=(rows * height, 0), aspect="equal")
    axes.axis("off")


def _title(label: int, probabilities: np.ndarray, names: Sequence[str]) -> tuple[str, str]:
    """Return the title of an image and its colour; a wrong prediction names the true class."""
    predicted = probabilities.argmax()
    title = f"{names[predicted]} {probabilities[predicted]:.0%}"
    if predicted == label:
        return title, CORRECT_COLOUR
    return f"{title}\ntrue: {names[label]}", WRONG_COLOUR
