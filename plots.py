"""Figures: arrays and tables in, a matplotlib Figure out. Nothing is shown, saved or loaded here.

images: (N, 28, 28, 1) in [0, 1]; labels: (N,); probabilities: (N, classes); names: one a class.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

# Two colours of Paul Tol's vibrant scheme, which every kind of colour vision tells apart.
BLUE, RED = "#0077BB", "#CC3311"
RIGHT, WRONG = BLUE, RED
# Tol's muted scheme and black: a class each, wherever position alone does not tell them apart.
CLASS_COLOURS = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE",
                 "#882255", "#44AA99", "#999933", "#AA4499", "#000000")
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


def photographs(photos, probabilities, titles, names):
    """Every photograph with the object framed, beside the image that was cut out of it and the probabilities.

    photos: with picture (height, width, 3), box (left, top, right, bottom) and image (28, 28, 1).
    """
    columns = min(2, len(photos))
    rows = -(-len(photos) // columns)
    figure = Figure(figsize=(7.5 * columns, 2.6 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    grid = figure.subplots(rows, 3 * columns, squeeze=False, width_ratios=[1, 1, 1.3] * columns).reshape(-1, 3)
    for axes in grid[len(photos):].flat:
        axes.axis("off")
    for (picture, seen, bars), photo, shares, title in zip(grid, photos, probabilities, titles):
        picture.imshow(photo.picture)
        left, top, right, bottom = photo.box
        picture.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, color=RED, linewidth=1.5))
        picture.set_title(title, fontsize=9)
        seen.imshow(photo.image[..., 0], cmap="gray", vmin=0, vmax=1)
        seen.set_title("what the network sees", fontsize=9)
        for axes in (picture, seen):
            axes.axis("off")
        bars.barh(names, shares, color=[BLUE if share == shares.max() else "0.7" for share in shares])
        bars.invert_yaxis()
        bars.set(xlim=(0, 1), xlabel="Probability")
        bars.set_title(f"{names[shares.argmax()]} {shares.max():.0%}", fontsize=9, fontweight="bold")
        bars.tick_params(labelsize=8)
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


def class_counts(counts, names):
    """counts: arrays (classes,) by the name of a part."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(names))
    for (part, count), colour in zip(counts.items(), (BLUE, "#33BBEE", RED)):
        bars = axes.barh(names, count, left=left, color=colour, label=f"{part}, {count.sum():,}")
        axes.bar_label(bars, [f"{number:,}" for number in count], label_type="center", color="white", fontsize=9)
        left += count
    axes.invert_yaxis()
    axes.set(xlabel="Images", title="Images of each class")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=len(counts), frameon=False)
    return figure


def samples(images, labels, names, columns=12):
    """The first images of every class, a row each."""
    rows = [images[np.flatnonzero(labels == number)[:columns]] for number in range(len(names))]
    return _rows_of_images(dict(zip(names, rows)), columns, "The first images of each class")


def class_means(means, spreads, names):
    """means, spreads: (classes, 28, 28, 1), of the pixels of every class."""
    figure = _rows_of_images({"mean": means, "standard\ndeviation": spreads / spreads.max()}, len(names),
                             "Mean image and standard deviation of each pixel, by class")
    for axes, name in zip(figure.axes, names):
        axes.set_title(name, fontsize=10)
    return figure


def pixel_histogram(counts):
    """counts: arrays (256,), how often a part has each grey, by its name."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for (part, count), colour, width in zip(counts.items(), ("#33BBEE", RED), (4, 1)):
        axes.stairs(100 * count / count.sum(), np.arange(257) / 255, color=colour, label=part, linewidth=width)
    axes.set(yscale="log", xlim=(0, 1), xlabel="Pixel, from black to white", ylabel="Share of the pixels, %",
             title="Greys")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def maps(points, labels, names):
    """points: (N, 2) by the name of the method that made them."""
    figure = Figure(figsize=(13, 6.5), layout="constrained")
    for axes, (method, places) in zip(figure.subplots(1, len(points)), points.items()):
        for number, (name, colour) in enumerate(zip(names, CLASS_COLOURS)):
            some = places[labels == number]
            axes.scatter(*some.T, s=4, color=colour, alpha=0.5, linewidths=0, label=name)
        axes.set(title=method, xticks=[], yticks=[])
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=5, markerscale=5, frameon=False)
    for handle in legend.legend_handles:
        handle.set_alpha(1)
    return figure


def pairs(images, captions, title, columns=6):
    """images: (N, 2, 28, 28, 1), drawn side by side under their captions."""
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(2.2 * columns, 1.55 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, (left, right), caption in zip(grid.flat, images, captions):
        axes.imshow(np.hstack([left[..., 0], np.zeros((len(left), 1)), right[..., 0]]), cmap="gray_r", vmin=0, vmax=1)
        axes.axvline(len(left), color="0.5", linewidth=0.8)
        axes.set_title(caption, fontsize=8.5)
    figure.suptitle(title)
    return figure


GROUP_STYLES = {"networks": (BLUE, "o"), "recipes": ("#EE7733", "D"), "ablations": ("#33BBEE", "v"),
                "baselines": ("0.45", "s")}


def accuracy_against_cost(rows):
    """rows: dicts with label, group, accuracy, accuracy_deviation and seconds. Points are numbered, as names collide.

    What is trained in less than a second stands at one.
    """
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows, 1):
        colour, marker = GROUP_STYLES[row["group"]]
        place = max(row["seconds"], 1), 100 * (1 - row["accuracy"])
        axes.errorbar(*place, yerr=100 * (row["accuracy_deviation"] or 0), color=colour, marker=marker, markersize=5,
                      capsize=3, linestyle="none")
        axes.annotate(str(number), place, xytext=(5, 4), textcoords="offset points", fontsize=9, color=colour)
    handles = [axes.plot([], [], color=GROUP_STYLES[row["group"]][0], marker=GROUP_STYLES[row["group"]][1],
                         linestyle="none", markersize=5, label=f"{number}  {row['label']}")[0]
               for number, row in enumerate(rows, 1)]
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9,
                  title="By validation accuracy")
    axes.set(xscale="log", yscale="log", xlabel="Training, seconds", ylabel="Test error, %", title="Error against cost")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.grid(alpha=0.3, which="both")
    return figure


def class_recalls(recalls, names):
    """recalls: arrays (classes,) by the name of the model."""
    shares = 100 * np.stack(list(recalls.values()))
    figure = Figure(figsize=(11, 0.32 * len(recalls) + 2.4), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="viridis", vmin=min(50, shares.max() - 1), vmax=100, aspect="auto")
    for row, column in np.ndindex(shares.shape):
        axes.text(column, row, f"{shares[row, column]:.1f}", ha="center", va="center", fontsize=8,
                  color="black" if shares[row, column] > 85 else "white")
    axes.set(xticks=range(len(names)), yticks=range(len(recalls)), yticklabels=list(recalls),
             title="Recognised images of each class, %")
    axes.set_xticklabels(names, rotation=30, ha="right", rotation_mode="anchor")
    figure.colorbar(picture, label="Recall, %")
    return figure


def confusion_difference(difference, names, first, other):
    """difference: (classes, classes), the counts of `first` less those of `other`."""
    figure = Figure(figsize=(8.5, 7), layout="constrained")
    axes = figure.subplots()
    largest = max(np.abs(difference).max(), 1)
    picture = axes.imshow(difference, cmap="RdBu", vmin=-largest, vmax=largest)
    for row, column in np.ndindex(difference.shape):
        if abs(difference[row, column]) >= 0.5:
            axes.text(column, row, f"{difference[row, column]:+.0f}", ha="center", va="center", fontsize=9,
                      color="white" if abs(difference[row, column]) > 0.6 * largest else "black")
    axes.set(xticks=range(len(names)), yticks=range(len(names)), yticklabels=names, xlabel="Predicted class",
             ylabel="True class", title=f"Images more in {first} than in {other}")
    axes.set_xticklabels(names, rotation=40, ha="right", rotation_mode="anchor")
    figure.colorbar(picture, label="Test images", shrink=0.8)
    return figure


def gaps(rows):
    """rows: dicts with label, train_accuracy and val_accuracy."""
    figure = Figure(figsize=(9, 0.32 * len(rows) + 2), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.plot([100 * row["val_accuracy"], 100 * row["train_accuracy"]], [place, place], color="0.7", zorder=1)
        axes.text(100 * row["train_accuracy"] + 0.4, place,
                  f"{100 * (row['train_accuracy'] - row['val_accuracy']):+.1f}", va="center", fontsize=8.5)
    for key, colour, marker in (("val_accuracy", RED, "o"), ("train_accuracy", BLUE, "D")):
        axes.scatter([100 * row[key] for row in rows], range(len(rows)), color=colour, marker=marker, s=28, zorder=2,
                     label={"val_accuracy": "validation", "train_accuracy": "training"}[key])
    axes.set(yticks=range(len(rows)), yticklabels=[row["label"] for row in rows], xlabel="Accuracy, %",
             title="From validation to training images")
    axes.margins(x=0.1)
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside lower right", ncols=2, frameon=False)
    return figure


def with_and_without(pairs):
    """pairs: two dicts with label, val_accuracy and val_accuracy_deviation, the network with its part and without."""
    figure = Figure(figsize=(9, 0.75 * len(pairs) + 2), layout="constrained")
    axes = figure.subplots()
    for number, colour, marker, label in ((0, BLUE, "o", "with"), (1, RED, "s", "without")):
        some = [pair[number] for pair in pairs.values()]
        axes.errorbar([100 * row["val_accuracy"] for row in some], np.arange(len(some)) + 0.16 * (2 * number - 1),
                      xerr=[100 * (row["val_accuracy_deviation"] or 0) for row in some], color=colour, marker=marker,
                      linestyle="none", capsize=3, label=label)
    axes.set(yticks=range(len(pairs)), yticklabels=[name.replace("-", " ") for name in pairs],
             xlabel="Validation accuracy, %", ylim=(len(pairs) - 0.5, -0.5), title="With a part, and without it")
    axes.grid(alpha=0.3, axis="x")
    axes.legend()
    return figure


def depth(rows):
    """rows: dicts with train_accuracy, val_accuracy and its deviation, by the number of convolutions."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(list(rows), [100 * row["train_accuracy"] for row in rows.values()], color=BLUE, marker="D",
              linestyle="--", label="training")
    axes.errorbar(list(rows), [100 * row["val_accuracy"] for row in rows.values()],
                  yerr=[100 * (row["val_accuracy_deviation"] or 0) for row in rows.values()], color=RED, marker="o",
                  capsize=3, label="validation")
    axes.set(xticks=list(rows), xlabel="Convolutions of gap_cnn", ylabel="Accuracy, %",
             title="Accuracy against the number of convolutions")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _rows_of_images(rows, columns, title):
    figure = Figure(figsize=(1.0 * columns + 1.2, 1.0 * len(rows) + 0.7), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(grid, rows.items()):
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for axes, image in zip(line, images):
            axes.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    figure.suptitle(title)
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
