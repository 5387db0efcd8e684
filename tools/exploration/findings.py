"""What Fashion-MNIST is like: its classes, its greys, and what is in it twice."""

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

NEAR = 0.05  # the distance of two images, once both are scaled to length 1
NEIGHBOURS = 5  # of each image, that can be its duplicates
CHUNK = 1000  # images whose neighbours are looked for at a time


def explore(data_dir: str | None, val_size: float, output_dir: str | Path) -> dict[str, Any]:
    """Write all figures and findings to output_dir and return the findings. Raises DataError."""
    Path(output_dir).mkdir(parents=True, exist_ok=True)  # or say now that it cannot be made
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
            place: duplicates(everything, near[test_images == count])
            for count, place in enumerate(figures.PLACES)
        },
    }
    drawn = figures.draw(dataset, train, everything, pairs, pair_distances)
    with atomic_io.atomic_writes(Path(output_dir)) as folder:
        html_report.write(folder, "Fashion-MNIST", page(findings), drawn, figures.CAPTIONS)
        atomic_io.write_json(folder / "findings.json", findings)
    return findings


def joined(first: data.Part, second: data.Part) -> data.Part:
    """Return the images and labels of two parts as one."""
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
            ["", "images", "mean pixel", "black pixels", "nearest of another class", "most often"],
            classes,
        ),
        html_report.table(
            [
                "pairs of duplicates",
                "equal to the byte",
                f"nearer than {NEAR}",
                "with different labels",
            ],
            ([place, *row.values()] for place, row in findings["duplicates"].items()),
        ),
    ]


def nearest(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of every image's nearest others and their distances, (N, NEIGHBOURS).

    The images are scaled to length 1 first, so that a copy that is brighter is no other image.
    """
    vectors = normalize(images.reshape(len(images), -1))
    search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(vectors)
    found = [
        search.kneighbors(vectors[start : start + CHUNK])
        for start in rich.progress.track(range(0, len(vectors), CHUNK), "Looking for duplicates")
    ]
    distances, neighbours = (np.concatenate(both) for both in zip(*found, strict=True))
    # Among them is the image itself, unless it has so many exact copies.
    others = neighbours != np.arange(len(images))[:, None]
    others[others.all(axis=1), -1] = False
    return neighbours[others].reshape(-1, NEIGHBOURS), distances[others].reshape(-1, NEIGHBOURS)


def closest_pairs(neighbours: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return neighbours as pairs (M, 2), each once, and their distances (M,), lowest first."""
    images = np.repeat(np.arange(len(neighbours)), neighbours.shape[1])
    pairs = np.sort(np.stack([images, neighbours.ravel()], axis=1), axis=1)
    distances = distances.ravel()
    _, first = np.unique(pairs, axis=0, return_index=True)
    first = first[np.argsort(distances[first], kind="stable")]
    return pairs[first], distances[first]


def duplicates(part: data.Part, pairs: np.ndarray) -> dict[str, int]:
    """Return how many pairs are equal to the byte, are not, and have different labels."""
    exact = sum(np.array_equal(*part.images[pair]) for pair in pairs)
    other = sum(one != two for one, two in part.labels[pairs])
    return {"exact": exact, "near": len(pairs) - exact, "with_different_labels": int(other)}


def class_findings(part: data.Part, neighbours: np.ndarray, label: int) -> dict[str, Any]:
    """Return facts of one class, and the class that its images' other neighbours belong to."""
    members = part.labels == label
    labels = part.labels[neighbours[members]]
    others = np.bincount(labels[labels != label], minlength=len(CLASS_NAMES))
    images = part.images[members]
    return {
        "class": CLASS_NAMES[label],
        "images": int(members.sum()),
        "mean": float(images.mean(dtype=np.float64)),
        "black": float(np.mean(images == 0)),
        "nearest_is_of_another_class": float(np.mean(labels != label)),
        "most_often": CLASS_NAMES[others.argmax()] if others.any() else None,
    }


def sentences(findings: dict[str, Any]) -> list[str]:
    """Return the findings as text."""
    found = findings["duplicates"].values()
    total = {
        key: sum(row[key] for row in found) for key in ("exact", "near", "with_different_labels")
    }
    hardest = max(findings["classes"], key=lambda row: row["nearest_is_of_another_class"])
    counts, other_class = findings["images"], "nearest_is_of_another_class"
    return [
        f"{counts['train']:,} training and {counts['test']:,} test images of 28 × 28 grey pixels. "
        f"{findings['black']:.0%} of the training pixels are black; their mean is "
        f"{findings['mean']:.4f} and their standard deviation {findings['deviation']:.4f}, from "
        "black 0 to white 1.",
        f"Of {findings[other_class]:.1%} of all images, the most similar other image belongs to "
        f"another class; of {hardest['class']}, {hardest[other_class]:.1%}, where it is most often "
        f"{hardest['most_often']}. So much a network has to see beyond likeness.",
        f"{total['exact']} pairs of images are equal to the byte and {total['near']} more are near "
        f"duplicates, which, scaled to length 1, are nearer than {NEAR} to each other; "
        f"{total['with_different_labels']} of all those have different labels. "
        f"{findings['duplicates'][figures.PLACES[1]]['near']} of the near ones have one image in "
        "the training set and one in the test set.",
    ]
