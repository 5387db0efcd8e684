"""The figures of explore_data.py.

images: (N, 28, 28, 1) in [0, 1]; labels: (N,); names: class names.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

import data
from fmnist.config import AUGMENTATIONS
from fmnist.evaluation.embedding import COMPONENTS, flat_maps
from fmnist.figure_style import default_style
from fmnist.source import CLASS_NAMES
from fmnist.training.augmentation import augment
from plots import BLUE, RED, maps

# The subsets of a pair, by the number of its images in the test set: 0, 1 or 2.
PAIR_SUBSETS = ("within train", "between train and test", "within test")
MAP_IMAGES = 6000  # images in the maps, because t-SNE is slow
SHOWN = 24  # pairs in a figure
AUGMENTED = ("T-shirt/top", "Sneaker", "Bag")  # classes in the figure of the augmentation
EPOCHS = 4  # epochs in this figure
CAPTIONS = {
    "class_counts": "Number of images per class in the training, validation and test set.",
    "samples": "The first training images of each class.",
    "augmentation": "A training image of each of three classes (framed), and what the network is "
    f"trained on instead in {EPOCHS} consecutive epochs, for each value of the option --augment.",
    "class_means": "Mean image of each class, and the standard deviation of each of its pixels.",
    "pixel_histogram": "Frequency of the 256 pixel values. The background is black.",
    "maps": f"{MAP_IMAGES:,} training images in two dimensions: the first two principal components "
    f"(PCA), and t-SNE of the first {COMPONENTS} principal components. t-SNE preserves "
    "neighbourhoods; its larger distances have no meaning.",
    "closest_pairs": "The most similar pairs of images with their labels, their subsets and their "
    "distance.",
    "closest_pairs_of_two_classes": "The most similar pairs of images with different labels.",
}


@default_style()
def draw(
    dataset: data.Dataset,
    train: data.Part,
    everything: data.Part,
    pairs: np.ndarray,
    distances: np.ndarray,
) -> dict[str, Figure]:
    """Return the figures by name.

    Args:
        dataset: training, validation and test set.
        train: training and validation set together.
        everything: `train`, followed by the test set.
        pairs: indices (M, 2) in `everything` of similar images, sorted by distance.
        distances: distances (M,) of the pairs.
    """
    names = CLASS_NAMES
    parts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    by_class = [train.images[train.labels == label] for label in range(len(names))]
    histograms = {
        name: np.bincount(np.rint(255 * part.images).astype(np.uint8).ravel(), minlength=256)
        for name, part in {"training": train, "test": dataset.test}.items()
    }
    mapped = train.images[:MAP_IMAGES]
    differs = everything.labels[pairs[:, 0]] != everything.labels[pairs[:, 1]]

    def closest(selection: slice | np.ndarray, title: str) -> Figure:
        shown = pairs[selection][:SHOWN]
        captions = []
        for pair, distance in zip(shown, distances[selection][:SHOWN], strict=True):
            labels = " | ".join(dict.fromkeys(names[label] for label in everything.labels[pair]))
            subsets = PAIR_SUBSETS[(pair >= len(train.labels)).sum()]
            captions.append(f"{labels}\n{subsets}, {distance:.3f}")
        return image_pairs(everything.images[shown], captions, title)

    return {
        "class_counts": class_counts(
            {name: np.bincount(part.labels, minlength=len(names)) for name, part in parts.items()},
            names,
        ),
        "samples": samples(train.images, train.labels, names),
        "augmentation": augmentation(train.images, train.labels, names),
        "class_means": class_means(
            np.stack([images.mean(axis=0) for images in by_class]),
            np.stack([images.std(axis=0) for images in by_class]),
            names,
        ),
        "pixel_histogram": pixel_histogram(histograms),
        "maps": maps(flat_maps(mapped.reshape(len(mapped), -1)), train.labels[:MAP_IMAGES], names),
        "closest_pairs": closest(slice(None), "Most similar pairs of images, with their distance"),
        "closest_pairs_of_two_classes": closest(
            differs, "Most similar pairs of images with different labels, with their distance"
        ),
    }


def class_counts(counts: dict[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Return a bar chart of the number of images per class.

    Args:
        counts: arrays (classes,) by name of the subset.
        names: class names.
    """
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    start = np.zeros(len(names))
    for (part, count), colour in zip(counts.items(), (BLUE, "#33BBEE", RED), strict=False):
        bars = axes.barh(
            names, count, left=start, color=colour, label=f"{part}, {count.sum():,} images"
        )
        axes.bar_label(
            bars,
            [f"{number:,}" for number in count],
            label_type="center",
            color="white",
            fontsize=9,
        )
        start += count
    axes.invert_yaxis()
    axes.set(xlabel="Number of images", title="Number of images per class")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=len(counts), frameon=False)
    return figure


def samples(
    images: np.ndarray, labels: np.ndarray, names: Sequence[str], columns: int = 12
) -> Figure:
    """Return the figure of the first images of every class, one row per class."""
    rows = [images[np.flatnonzero(labels == label)[:columns]] for label in range(len(names))]
    return _rows_of_images(
        dict(zip(names, rows, strict=True)), columns, "First images of each class"
    )


def augmentation(
    images: np.ndarray, labels: np.ndarray, names: Sequence[str], seed: int = 3
) -> Figure:
    """Return the figure of augmented images, one row per kind of augmentation.

    The columns are, for the first image of every class in AUGMENTED, the image itself and the
    augmented images of EPOCHS epochs.

    Args:
        images: (N, 28, 28, 1) in [0, 1].
        labels: (N,).
        names: class names.
        seed: random seed of the augmentation.
    """
    first = [np.flatnonzero(labels == names.index(name))[0] for name in AUGMENTED]
    originals = images[first][:, np.newaxis]  # (classes, 1, 28, 28, 1)
    columns, rows = len(AUGMENTED) * (1 + EPOCHS), {}
    for kind in AUGMENTATIONS[1:]:  # all except none
        epochs = [
            augment(images[first], tf.constant([seed, epoch]), tf.fill([len(first)], epoch), kind)
            for epoch in range(EPOCHS)
        ]
        row = np.concatenate([originals, np.stack(epochs, axis=1)], axis=1)
        rows[kind] = row.reshape(columns, *images.shape[1:])
    title = "Training images and their augmentation in consecutive epochs"
    figure = _rows_of_images(rows, columns, title)
    for index, axes in enumerate(figure.axes):
        image, epoch = divmod(index % columns, 1 + EPOCHS)
        if epoch == 0:
            axes.spines[:].set(visible=True, color=BLUE, linewidth=2)
        if index < columns:
            axes.set_title(f"epoch {epoch}" if epoch else AUGMENTED[image], fontsize=10)
    return figure


def class_means(means: np.ndarray, deviations: np.ndarray, names: Sequence[str]) -> Figure:
    """Return the figure of the mean image and the standard deviation of each pixel, by class.

    Args:
        means: (classes, 28, 28, 1).
        deviations: standard deviations (classes, 28, 28, 1).
        names: class names.
    """
    figure = _rows_of_images(
        {"mean": means, "standard\ndeviation": deviations / deviations.max()},
        len(names),
        "Mean image and standard deviation of each pixel, by class",
    )
    for axes, name in zip(figure.axes, names, strict=False):
        axes.set_title(name, fontsize=10)
    return figure


def pixel_histogram(counts: dict[str, np.ndarray]) -> Figure:
    """Return the histogram of pixel values.

    Args:
        counts: number of pixels of every value, (256,), by name of the subset.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for (part, count), colour, width in zip(counts.items(), ("#33BBEE", RED), (4, 1), strict=True):
        axes.stairs(
            100 * count / count.sum(),
            np.arange(257) / 255,
            color=colour,
            label=part,
            linewidth=width,
        )
    axes.set(
        yscale="log",
        xlim=(0, 1),
        xlabel="Pixel value, from 0 (black) to 1 (white)",
        ylabel="Fraction of the pixels, %",
        title="Distribution of pixel values",
    )
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def image_pairs(
    images: np.ndarray, captions: Sequence[str], title: str, columns: int = 6
) -> Figure:
    """Return the figure of pairs of images, side by side under their captions.

    Args:
        images: (N, 2, 28, 28, 1).
        captions: captions of the pairs (N).
        title: title of the figure.
        columns: number of pairs per row.
    """
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(2.2 * columns, 1.55 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, (left, right), caption in zip(grid.flat, images, captions, strict=False):
        axes.imshow(
            np.hstack([left[..., 0], np.zeros((len(left), 1)), right[..., 0]]),
            cmap="gray_r",
            vmin=0,
            vmax=1,
        )
        axes.axvline(len(left), color="0.5", linewidth=0.8)
        axes.set_title(caption, fontsize=8.5)
    figure.suptitle(title)
    return figure


def _rows_of_images(rows: dict[str, np.ndarray], columns: int, title: str) -> Figure:
    figure = Figure(figsize=(1.0 * columns + 1.2, 1.0 * len(rows) + 0.7), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(grid, rows.items(), strict=True):
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for axes, image in zip(line, images, strict=False):
            axes.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    figure.suptitle(title)
    return figure
