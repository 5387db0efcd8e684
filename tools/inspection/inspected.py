"""The run under inspection, and what a part of the inspection returns."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from matplotlib.figure import Figure

import data
from fmnist import cli, runs
from fmnist.evaluation import activations, metrics
from fmnist.networks import class_probabilities
from fmnist.source import CLASS_NAMES

BATCH = 250  # images
MIN_IMAGES = 5  # test images of a class
MISTAKES = 10  # mistakes in a figure


@dataclasses.dataclass
class Inspected:
    """A run and what all parts of its inspection need.

    Attributes:
        run: run directory.
        model: its model.
        members: the members of the model.
        dataset: the data set, with the split of the run.
        train_indices: index in the file of every training image.
        probabilities: calibrated class probabilities (N, 10) of the test images.
        predicted: predicted classes (N,) of the test images.
        mistakes: indices of the wrong predictions, the most confident first.
        data_dir: folder with the data files; None to find or download them.
        folder: folder for the results.
    """

    run: Path
    model: keras.Model
    members: list[activations.Member]
    dataset: data.Dataset
    train_indices: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    mistakes: np.ndarray
    data_dir: str | Path | None
    folder: Path


@dataclasses.dataclass
class Part:
    """A part of the inspection.

    Attributes:
        title: heading on the page.
        html: HTML elements below the heading, before the figures.
        figures: figures and their captions by name.
        tables: head and rows by name of the CSV file.
        results: entries for inspection.json.
    """

    title: str
    html: list[str]
    figures: dict[str, tuple[Figure, str]] = dataclasses.field(default_factory=dict)
    tables: dict[str, tuple[Sequence[str], Sequence[Sequence[Any]]]] = dataclasses.field(
        default_factory=dict
    )
    results: dict[str, Any] = dataclasses.field(default_factory=dict)


class Network(NamedTuple):
    """The network of a run.

    Attributes:
        config: content of config.json.
        model: model of the run.
        temperature: for metrics.calibrated(), fitted on the validation set.
    """

    config: dict[str, Any]
    model: keras.Model
    temperature: float


def load_network(run: Path, data_dir: str | Path | None) -> tuple[Network, data.Dataset]:
    """Return the network of a run, and the data set with its split. Raises: see inspect_run()."""
    config = runs.load_evaluation_config(run)
    model, dataset = runs.load_model(run), data.load_for_run(config, data_dir)
    runs.check_fingerprint(run, dataset)
    validation = dataset.validation
    probabilities = class_probabilities(run, model, data.batches(validation, BATCH))
    temperature = metrics.fit_temperature(
        validation.labels, probabilities, config["label_smoothing"]
    )
    return Network(config, model, temperature), dataset


def load(run: Path, data_dir: str | None, folder: Path) -> Inspected:
    """Load a run and its data, and predict the test set. Raises: see inspect_run()."""
    (config, model, temperature), dataset = load_network(run, data_dir)
    print(f"Data: {dataset.source}")
    members = activations.inspected_members(run, model)
    labels = dataset.test.labels
    counts = np.bincount(labels, minlength=len(CLASS_NAMES))
    if counts.min() < MIN_IMAGES:
        raise cli.UserError(
            f"too few test images of the class {CLASS_NAMES[counts.argmin()]}: {counts.min()}, "
            f"and an inspection needs {MIN_IMAGES}"
        )
    data_dir = data.folder_for_run(config, data_dir)
    (_, train_labels, _, _), _ = data.read(data_dir)
    train_indices, _ = data.split_indices(
        train_labels, config["val_size"], config["limit"], config["seed"], config.get("fold")
    )
    outputs = class_probabilities(run, model, data.batches(dataset.test, BATCH))
    probabilities = metrics.calibrated(outputs, temperature, config["label_smoothing"])
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    mistakes = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    return Inspected(
        run=run,
        model=model,
        members=members,
        dataset=dataset,
        train_indices=train_indices,
        probabilities=probabilities,
        predicted=predicted,
        mistakes=mistakes,
        data_dir=data_dir,
        folder=folder,
    )


def accuracy_of(inspected: Inspected) -> float:
    """Return the accuracy on the test set, without test-time augmentation."""
    return metrics.accuracy(inspected.dataset.test.labels, inspected.probabilities)
