"""The figures of the exploration."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

import data
from fmnist.source import CLASS_NAMES
from plots import BLUE, RED

# Paul Tol's muted scheme and black: a class each, wherever position alone does not tell them apart.
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
# By the number of a pair's test images.
PLACES = ("within train", "between train and test", "within test")
MAP_IMAGES = 6000  # of the map, as t-SNE is slow
DIRECTIONS = 50  # of largest variance, that t-SNE sees
SHOWN = 24  # pairs in a picture
CAPTIONS = {
    "class_counts": "How many images of each class are trained on, validated on (by default) and "
    "tested on.",
    "samples": "What the classes look like.",
    "class_means": "Where the images of a class are bright, and where they differ.",
    "pixel_histogram": "How often each of the 256 greys occurs. The ground is black.",
    "maps": f"{MAP_IMAGES:,} training images in two dimensions: the two directions of largest "
    f"variance (PCA), and t-SNE of the first {DIRECTIONS}, which keeps neighbours together and "
    "whose distances mean little otherwise.",
    "closest_pairs": "The images that are most alike, under their labels, with their distance.",
    "closest_pairs_of_two_classes": "The images of different classes that are most alike.",
}


def draw(
    dataset: data.Dataset,
    train: data.Part,
    everything: data.Part,
    pairs: np.ndarray,
    distances: np.ndarray,
) -> dict[str, Figure]:
    """Return the figures by name.

    Args:
        dataset: all three parts.
        train: the training set before its split.
        everything: `train`, and after it the test set.
        pairs: indices (M, 2) in `everything` of images that are most alike.
        distances: of the pairs, (M,).
    """
    names = CLASS_NAMES
    parts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    by_class = [train.images[train.labels == label] for label in range(len(names))]
    greys = {
        name: np.bincount(np.rint(255 * part.images).astype(np.uint8).ravel(), minlength=256)
        for name, part in {"train": train, "test": dataset.test}.items()
    }
    differs = everything.labels[pairs[:, 0]] != everything.labels[pairs[:, 1]]

    def closest(chosen: slice | np.ndarray, title: str) -> Figure:
        captions = []
        for pair, distance in zip(pairs[chosen][:SHOWN], distances[chosen][:SHOWN], strict=True):
            labels = " | ".join(dict.fromkeys(names[label] for label in everything.labels[pair]))
            place = PLACES[(pair >= len(train.labels)).sum()]
            captions.append(f"{labels}\n{place}, {distance:.3f}")
        return image_pairs(everything.images[pairs[chosen][:SHOWN]], captions, title)

    return {
        "class_counts": class_counts(
            {name: np.bincount(part.labels, minlength=len(names)) for name, part in parts.items()},
            names,
        ),
        "samples": samples(train.images, train.labels, names),
        "class_means": class_means(
            np.stack([images.mean(axis=0) for images in by_class]),
            np.stack([images.std(axis=0) for images in by_class]),
            names,
        ),
        "pixel_histogram": pixel_histogram(greys),
        "maps": maps(flat_maps(train.images[:MAP_IMAGES]), train.labels[:MAP_IMAGES], names),
        "closest_pairs": closest(slice(None), "The images that are most alike"),
        "closest_pairs_of_two_classes": closest(
            differs, "The images of two classes that are most alike"
        ),
    }


def flat_maps(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return places (N, 2) of the images by the name of the method."""
    places = PCA(DIRECTIONS, random_state=0).fit(images.reshape(len(images), -1))
    shares = places.explained_variance_ratio_
    places = places.transform(images.reshape(len(images), -1))
    return {
        f"PCA: {shares[:2].sum():.0%} of the variance": places[:, :2],
        f"t-SNE of {DIRECTIONS} directions: {shares.sum():.0%}": TSNE(
            init="pca", random_state=0, perplexity=min(30, len(images) / 4)
        ).fit_transform(places),
    }


def class_counts(counts: dict[str, np.ndarray], names: Sequence[str]) -> Figure:
    """counts: arrays (classes,) by the name of a part."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(names))
    for (part, count), colour in zip(counts.items(), (BLUE, "#33BBEE", RED), strict=False):
        bars = axes.barh(names, count, left=left, color=colour, label=f"{part}, {count.sum():,}")
        axes.bar_label(
            bars,
            [f"{number:,}" for number in count],
            label_type="center",
            color="white",
            fontsize=9,
        )
        left += count
    axes.invert_yaxis()
    axes.set(xlabel="Images", title="Images of each class")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=len(counts), frameon=False)
    return figure


def samples(
    images: np.ndarray, labels: np.ndarray, names: Sequence[str], columns: int = 12
) -> Figure:
    """The first images of every class, a row each."""
    rows = [images[np.flatnonzero(labels == label)[:columns]] for label in range(len(names))]
    return _rows_of_images(
        dict(zip(names, rows, strict=True)), columns, "The first images of each class"
    )


def class_means(means: np.ndarray, deviations: np.ndarray, names: Sequence[str]) -> Figure:
    """means, deviations: (classes, 28, 28, 1), of the pixels of every class."""
    figure = _rows_of_images(
        {"mean": means, "standard\ndeviation": deviations / deviations.max()},
        len(names),
        "Mean image and standard deviation of each pixel, by class",
    )
    for axes, name in zip(figure.axes, names, strict=False):
        axes.set_title(name, fontsize=10)
    return figure


def pixel_histogram(counts: dict[str, np.ndarray]) -> Figure:
    """counts: arrays (256,), how often a part has each grey, by its name."""
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
        xlabel="Pixel, from black to white",
        ylabel="Share of the pixels, %",
        title="Greys",
    )
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def maps(points: dict[str, np.ndarray], labels: np.ndarray, names: Sequence[str]) -> Figure:
    """points: (N, 2) by the name of the method that made them."""
    figure = Figure(figsize=(13, 6.5), layout="constrained")
    for axes, (method, places) in zip(figure.subplots(1, len(points)), points.items(), strict=True):
        for label, (name, colour) in enumerate(zip(names, CLASS_COLOURS, strict=False)):
            axes.scatter(
                *places[labels == label].T, s=4, color=colour, alpha=0.5, linewidths=0, label=name
            )
        axes.set(title=method, xticks=[], yticks=[])
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="outside lower center", ncols=5, markerscale=5, frameon=False
    )
    for handle in legend.legend_handles:
        handle.set_alpha(1)
    return figure


def image_pairs(
    images: np.ndarray, captions: Sequence[str], title: str, columns: int = 6
) -> Figure:
    """images: (N, 2, 28, 28, 1), drawn side by side under their captions."""
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
