"""Figures: arrays and tables in, a matplotlib Figure out. Nothing is shown, saved or loaded here.

images: (N, 28, 28, 1) in [0, 1]; labels: (N,); probabilities: (N, classes); names: one a class.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Two colours of Paul Tol's vibrant scheme, which every kind of colour vision tells apart.
BLUE, RED = "#0077BB", "#CC3311"
RIGHT, WRONG = BLUE, RED
FEW = 20  # images in a bin, whose accuracy would be chance


def curves(history, chosen_epoch):
    """history: dicts with epoch, accuracy, val_accuracy, loss and val_loss."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(epochs) < 3 else None  # a line needs two points to be seen
    for axes, key, title in zip(figure.subplots(1, 2), ("accuracy", "loss"), ("Accuracy", "Loss")):
        axes.plot(epochs, [row[key] for row in history], color=BLUE, marker=marker, linestyle="--",
                  label="training (while it learns)")
        axes.plot(epochs, [row[f"val_{key}"] for row in history], color=RED, marker=marker, label="validation")
        axes.axvline(chosen_epoch, color="0.4", linewidth=1, linestyle=":", label=f"kept: epoch {chosen_epoch}")
        axes.set(xlabel="Epoch", ylabel=title, title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion_matrix(counts, names):
    """counts: (classes, classes), rows true, columns predicted. Shaded by the share of the row."""
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        if counts[row, column]:
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center",
                      color="white" if shares[row, column] > 0.5 else "black")
    axes.set(xticks=range(len(names)), yticks=range(len(names)), yticklabels=names,
             xlabel="Predicted class", ylabel="True class", title="Confusion matrix (images)")
    axes.set_xticklabels(names, rotation=40, ha="right", rotation_mode="anchor")
    figure.colorbar(picture, label="Share of the true class", shrink=0.8)
    return figure


def predictions(images, labels, probabilities, names, columns=6):
    """Every image with its predicted class and confidence, correct in blue, wrong in red."""
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(1.75 * columns, 2.15 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    _fill(grid, images, labels, probabilities, names)
    figure.suptitle("Predicted class and confidence: correct in blue, wrong in red with the true class")
    return figure


def correct_and_wrong(images, labels, probabilities, names, columns=4, rows=3):
    """The first correct images on the left, the first wrong ones on the right."""
    figure = Figure(figsize=(14, 2.15 * rows + 0.5), layout="constrained")
    correct = probabilities.argmax(axis=1) == labels
    for side, chosen, title, colour in zip(
            figure.subfigures(1, 2, wspace=0.05), (correct, ~correct), ("Correct", "Wrong"), (RIGHT, WRONG)):
        which = np.flatnonzero(chosen)[:rows * columns]
        side.suptitle(f"{title}: {chosen.sum():,} of {len(labels):,}", color=colour, fontweight="bold")
        _fill(side.subplots(rows, columns), images[which], labels[which], probabilities[which], names)
    return figure


def mistakes(images, labels, probabilities, names, columns=6, rows=3):
    """The wrong predictions that the model was surest of, the surest first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    which = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:rows * columns]
    figure = predictions(images[which], labels[which], probabilities[which], names, columns)
    figure.suptitle(f"The {len(which)} most confident mistakes" if len(which) else "No mistakes")
    return figure


def probabilities(images, labels, probabilities, names):
    """Every image beside the probabilities of all classes, the predicted one in colour."""
    columns = 2
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(12, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=[1, 1.6] * columns).reshape(-1, 2)
    for picture, bars in grid[len(images):]:
        picture.axis("off")
        bars.axis("off")
    for (picture, bars), image, label, shares in zip(grid, images, labels, probabilities):
        _draw(picture, image, label, shares, names)
        colours = ["0.7"] * len(names)
        colours[shares.argmax()] = RIGHT if shares.argmax() == label else WRONG
        bars.barh(names, shares, color=colours)
        bars.invert_yaxis()
        bars.set(xlim=(0, 1), xlabel="Probability")
        bars.tick_params(labelsize=8)
        bars.get_yticklabels()[label].set_fontweight("bold")
    return figure


def calibration(before, after, error_before, error_after):
    """How often the network is right when it is so sure: as it is, and with the temperature.

    before, after: counts, confidences and accuracies of metrics.reliability(). A bin of few images has no point.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    curve, counts = figure.subplots(1, 2)
    curve.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="perfect")
    kinds = ((before, error_before, "as trained", RED, "s--"), (after, error_after, "with the temperature", BLUE, "o-"))
    for (number, confidence, accuracy), error, name, colour, line in kinds:
        many = number >= FEW
        curve.plot(confidence[many], accuracy[many], line, color=colour, clip_on=False,
                   label=f"{name}, ECE {error:.3f}")
        counts.stairs(number, np.linspace(0, 1, len(number) + 1), color=colour, linestyle=line[1:], linewidth=1.5,
                      label=name)
    curve.set(xlim=(0, 1), ylim=(0, 1), xlabel="Confidence", ylabel="Accuracy", title="Calibration")
    counts.set(xlim=(0, 1), yscale="log", ylim=(0.8, None), xlabel="Confidence", ylabel="Images",
               title="How sure the network is")
    counts.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (curve, counts):
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
    return figure


def _fill(grid, images, labels, probabilities, names):
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, label, shares in zip(grid.flat, images, labels, probabilities):
        _draw(axes, image, label, shares, names)


def _draw(axes, image, label, shares, names):
    predicted = shares.argmax()
    correct = predicted == label
    axes.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1)
    axes.axis("off")
    axes.set_title(f"{names[predicted]} {shares[predicted]:.0%}" + ("\n" if correct else f"\nis {names[label]}"),
                   color=RIGHT if correct else WRONG, fontsize=10)
