"""Statistics of Fashion-MNIST: classes, pixel values, nearest neighbours and duplicates."""

from pathlib import Path
from typing import Any

import numpy as np
import rich.progress
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

import data
from fmnist import atomic_io, html_report
from fmnist.source import CLASS_NAMES
from tools.exploration import figures

NEAR = 0.05  # Euclidean distance below which images are near duplicates, scaled to length 1
NEIGHBOURS = 5  # nearest neighbours of an image that are searched for duplicates
CHUNK = 1000  # images per neighbour search


def explore(data_dir: str | None, val_size: float, output_dir: str | Path) -> dict[str, Any]:
    """Write figures, findings.json and report.html, and return the findings.

    Args:
        data_dir: folder with the four data files; None to find or download them.
        val_size: size of the validation set, see data.load().
        output_dir: folder for the results.

    Raises:
        DataError: if the data set cannot be loaded.
    """
    Path(output_dir).mkdir(parents=True, exist_ok=True)  # fails before the long computation
    dataset = data.load(data_dir, val_size)
    print(f"Data: {dataset.source}")
    test = dataset.test
    train = joined(dataset.train, dataset.validation)
    everything = joined(train, test)

    neighbours, distances = nearest(everything.images)
    pairs, pair_distances = closest_pairs(neighbours, distances)
    near = pairs[pair_distances < NEAR]
    test_images = (near >= len(train.labels)).sum(axis=1)
    findings = {
        "images": {"train": len(train.labels), "test": len(test.labels)},
        "mean": float(train.images.mean(dtype=np.float64)),
        "deviation": float(train.images.std(dtype=np.float64)),
        "black": float(np.mean(train.images == 0)),
        "classes": [
            class_findings(everything, neighbours[:, 0], label) for label in range(len(CLASS_NAMES))
        ],
        "nearest_is_of_another_class": float(
            np.mean(everything.labels[neighbours[:, 0]] != everything.labels)
        ),
        "duplicates": {
            subsets: duplicates(everything, near[test_images == count])
            for count, subsets in enumerate(figures.PAIR_SUBSETS)
        },
    }
    drawn = figures.draw(dataset, train, everything, pairs, pair_distances)
    with atomic_io.atomic_writes(Path(output_dir)) as folder:
        html_report.write(folder, "Fashion-MNIST", page(findings), drawn, figures.CAPTIONS)
        atomic_io.write_json(folder / "findings.json", findings)
    return findings


def joined(first: data.Part, second: data.Part) -> data.Part:
    """Return the concatenation of two parts."""
    return data.Part(*(np.concatenate(both) for both in zip(first, second, strict=True)))


def page(findings: dict[str, Any]) -> list[str]:
    """Return the findings as HTML."""
    classes = [
        [
            row["class"],
            f"{row['images']:,}",
            f"{row['mean']:.3f}",
            f"{row['black']:.0%}",
            f"{row['nearest_is_of_another_class']:.1%}",
            row["most_often"] or "–",
        ]
        for row in findings["classes"]
    ]
    return [
        *map(html_report.paragraph, sentences(findings)),
        html_report.table(
            [
                "class",
                "images",
                "mean pixel value",
                "black pixels",
                "nearest neighbour in another class",
                "most frequent other class",
            ],
            classes,
        ),
        html_report.table(
            [
                "pairs",
                "exact duplicates",
                f"near duplicates (distance below {NEAR})",
                "pairs with different labels",
            ],
            ([subsets, *row.values()] for subsets, row in findings["duplicates"].items()),
        ),
    ]


def nearest(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the nearest neighbours of every image and their distances.

    Images are scaled to length 1 first, so that a brighter copy has a distance close to 0.

    Args:
        images: (N, 28, 28, 1).

    Returns:
        Indices and Euclidean distances, (N, NEIGHBOURS) each, sorted by distance.
    """
    vectors = normalize(images.reshape(len(images), -1))
    search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(vectors)
    found = [
        search.kneighbors(vectors[start : start + CHUNK])
        for start in rich.progress.track(range(0, len(vectors), CHUNK), "Searching for duplicates")
    ]
    distances, neighbours = (np.concatenate(both) for both in zip(*found, strict=True))
    # The image itself is among the neighbours found, unless it has even more exact copies.
    others = neighbours != np.arange(len(images))[:, None]
    others[others.all(axis=1), -1] = False
    return neighbours[others].reshape(-1, NEIGHBOURS), distances[others].reshape(-1, NEIGHBOURS)


def closest_pairs(neighbours: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the unique pairs of neighbours (M, 2) and their distances (M,), sorted by distance."""
    images = np.repeat(np.arange(len(neighbours)), neighbours.shape[1])
    pairs = np.sort(np.stack([images, neighbours.ravel()], axis=1), axis=1)
    distances = distances.ravel()
    _, first = np.unique(pairs, axis=0, return_index=True)
    first = first[np.argsort(distances[first], kind="stable")]
    return pairs[first], distances[first]


def duplicates(part: data.Part, pairs: np.ndarray) -> dict[str, int]:
    """Return the numbers of exact duplicates, near duplicates and pairs with different labels."""
    exact = sum(np.array_equal(*part.images[pair]) for pair in pairs)
    different = sum(first != second for first, second in part.labels[pairs])
    return {"exact": exact, "near": len(pairs) - exact, "with_different_labels": int(different)}


def class_findings(part: data.Part, neighbours: np.ndarray, label: int) -> dict[str, Any]:
    """Return the statistics of one class.

    Args:
        part: all images.
        neighbours: index of the nearest neighbour of every image, (N,).
        label: index of the class.
    """
    in_class = part.labels == label
    labels = part.labels[neighbours[in_class]]
    others = np.bincount(labels[labels != label], minlength=len(CLASS_NAMES))
    images = part.images[in_class]
    return {
        "class": CLASS_NAMES[label],
        "images": int(in_class.sum()),
        "mean": float(images.mean(dtype=np.float64)),
        "black": float(np.mean(images == 0)),
        "nearest_is_of_another_class": float(np.mean(labels != label)),
        "most_often": CLASS_NAMES[others.argmax()] if others.any() else None,
    }


def sentences(findings: dict[str, Any]) -> list[str]:
    """Return the findings as text."""
    rows = findings["duplicates"].values()
    total = {
        key: sum(row[key] for row in rows) for key in ("exact", "near", "with_different_labels")
    }
    hardest = max(findings["classes"], key=lambda row: row["nearest_is_of_another_class"])
    counts, other_class = findings["images"], "nearest_is_of_another_class"
    return [
        f"Fashion-MNIST has {counts['train']:,} training and {counts['test']:,} test images: "
        f"greyscale, 28 × 28 pixels. {findings['black']:.0%} of the training pixels are black. On "
        "a scale from 0 (black) to 1 (white), the mean of the training pixels is "
        f"{findings['mean']:.4f} and their standard deviation {findings['deviation']:.4f}.",
        f"For {findings[other_class]:.1%} of all images, the nearest neighbour belongs to another "
        f"class. The fraction is highest for the class {hardest['class']}: "
        f"{hardest[other_class]:.1%}, most often with a neighbour of the class "
        f"{hardest['most_often']}. Similarity alone does not separate these classes.",
        f"The data set has {total['exact']} pairs of exact duplicates and {total['near']} pairs of "
        f"near duplicates (distance below {NEAR} after scaling each image to length 1). "
        f"{total['with_different_labels']} of these pairs have different labels. "
        f"{findings['duplicates'][figures.PAIR_SUBSETS[1]]['near']} pairs of near duplicates have "
        "one image in the training set and one in the test set.",
    ]
