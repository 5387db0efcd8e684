"""Find label issues, images whose label is probably wrong, by confident learning.

Five networks are trained on four fifths of the training images each, so that every image is
predicted by a network that was not trained on it. From these predictions, the number of wrong
labels is estimated for every pair of label and true class. That many images are issues: those for
which the probability of the other class exceeds that of the label most. Northcutt, Jiang and
Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
https://arxiv.org/abs/1911.00068
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cleanlab.filter import find_label_issues
from matplotlib.figure import Figure

import data
from fmnist import html_report, image_grid, runs
from fmnist.config import TrainConfig
from fmnist.evaluation import metrics
from fmnist.networks import class_probabilities
from fmnist.source import CLASS_NAMES
from tools.inspection.inspected import BATCH, Inspected, Part
from train_cnn import train_or_resume

FOLDS = 5
SHOWN_ROWS, SHOWN_COLUMNS = 4, 9  # images in a figure
HEAD = ("set", "index", "label", "suggested_label", "label_probability", "suggested_probability")


class Predictions(NamedTuple):
    """Labels, and predictions of networks that were not trained on the images.

    Attributes:
        images: (N, 28, 28, 1), in the order of the file.
        labels: (N,).
        probabilities: class probabilities (N, 10).
    """

    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


def label_issues(inspected: Inspected) -> Part:
    """List the training and test images whose label is probably wrong."""
    sets = out_of_fold_predictions(inspected.data_dir, inspected.folder / "folds")
    issues = {
        name: find_label_issues(
            predictions.labels,
            predictions.probabilities,
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        )
        for name, predictions in sets.items()
    }
    part = Part("Label issues", [])
    rows, counts = [], []
    for name, predictions in sets.items():
        found = issues[name]
        rows += [(name, *issue) for issue in details(predictions, found)]
        accuracy = metrics.accuracy(predictions.labels, predictions.probabilities)
        counts.append((name, f"{len(predictions.labels):,}", f"{accuracy:.2%}", f"{len(found):,}"))
        if len(found):
            part.figures[f"label_issues_{name}"] = (
                gallery(predictions, found[: SHOWN_ROWS * SHOWN_COLUMNS], name),
                f"The {name} images whose label is least probable, and the class that the networks "
                "predict.",
            )
    on_issues = int(np.isin(inspected.mistakes, issues["test"]).sum())
    part.tables["label_issues"] = HEAD, rows
    head = ("images", "number", "accuracy of the five networks", "label issues")
    part.html = [
        html_report.paragraph(
            f"{FOLDS} networks of the recipe quick were trained on four fifths of the training "
            "images each. A training image is predicted by the network that was not trained on it, "
            "a test image by all of them. Confident learning estimates how many labels of each "
            "class are wrong, and lists the images that contradict their label most. The list also "
            "contains correct labels of images that look like another class, so look at the "
            "images. All of them are in tables/label_issues.csv, with their index in the file of "
            "the data set."
        ),
        html_report.table(head, counts),
        html_report.paragraph(on_mistakes(inspected, on_issues, len(issues["test"]))),
    ]
    part.results["label_issues"] = {name: len(found) for name, found in issues.items()}
    part.results["mistakes_with_label_issue"] = on_issues
    return part


def details(predictions: Predictions, indices: np.ndarray) -> Iterator[tuple[Any, ...]]:
    """Yield the columns of HEAD after the first one for the images at these indices."""
    suggested = predictions.probabilities.argmax(axis=1)
    for index in indices:
        label, probabilities = predictions.labels[index], predictions.probabilities[index]
        yield (
            index,
            CLASS_NAMES[label],
            CLASS_NAMES[suggested[index]],
            f"{probabilities[label]:.4f}",
            f"{probabilities.max():.4f}",
        )


def on_mistakes(inspected: Inspected, on_issues: int, issues: int) -> str:
    """Return a sentence about the label issues among the mistakes of the inspected network.

    Args:
        inspected: the run.
        on_issues: number of mistakes that are label issues.
        issues: number of label issues among the test images.
    """
    mistakes, images = len(inspected.mistakes), len(inspected.predicted)
    if not mistakes:
        return "The inspected network makes no mistakes on the test set."
    return (
        f"{on_issues:,} of the {mistakes:,} mistakes of the inspected network on the test set "
        f"({on_issues / mistakes:.0%}) are label issues; so are {issues / images:.1%} of all test "
        "images. No image is left out of any score."
    )


def out_of_fold_predictions(data_dir: str | Path | None, folder: Path) -> dict[str, Predictions]:
    """Return the predictions of the training and the test images by networks new to them.

    Finished networks in the folder are used again, and interrupted ones are resumed.

    Args:
        data_dir: folder with the data, or None.
        folder: folder for the run directories of the networks.

    Raises:
        UserError, KeyboardInterrupt: see train_cnn.train().
    """
    (images, labels, _, _), _ = data.read(data_dir)
    probabilities = np.empty((len(labels), len(CLASS_NAMES)), np.float32)
    of_test = []
    for fold in range(FOLDS):
        print(f"\nNetwork {fold + 1} of {FOLDS} for the label issues", flush=True)
        config = TrainConfig(
            recipe="quick",
            val_size=1 / FOLDS,
            fold=fold,
            data_dir=data_dir,
            runs_dir=folder,
            name=f"fold-{fold}",
        )
        run = train_or_resume(config)
        model, dataset = runs.load_model(run), data.load_for_run(runs.load_config(run), data_dir)
        runs.check_fingerprint(run, dataset)  # of a run from an earlier inspection
        _, held_out = data.split_indices(labels, config.val_size, seed=config.seed, fold=fold)
        probabilities[held_out] = class_probabilities(
            run, model, data.batches(dataset.validation, BATCH)
        )
        of_test.append(class_probabilities(run, model, data.batches(dataset.test, BATCH)))
    return {
        "training": Predictions(*data.normalise(images, labels), probabilities),
        "test": Predictions(*dataset.test, np.mean(of_test, axis=0)),
    }


def gallery(predictions: Predictions, indices: np.ndarray, name: str) -> Figure:
    """Return the figure of images with their label and the predicted class."""
    rows, titles = [], []
    for start in range(0, len(indices), SHOWN_COLUMNS):
        selected = indices[start : start + SHOWN_COLUMNS]
        rows.append([image_grid.grey(predictions.images[index, ..., 0]) for index in selected])
        titles.append(
            [
                f"label: {CLASS_NAMES[predictions.labels[index]]}\n"
                f"{CLASS_NAMES[predictions.probabilities[index].argmax()]} "
                f"{predictions.probabilities[index].max():.0%}"
                for index in selected
            ]
        )
    return image_grid.grid(
        rows, f"Label issues among the {name} images, with the prediction below the label",
        titles=titles, cell_size=1.3,
    )  # fmt: skip
