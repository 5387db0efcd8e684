"""Accuracy and calibration of networks on corrupted test images."""

import datetime
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import data
from fmnist import runs, runtime
from fmnist.evaluation import metrics
from fmnist.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from fmnist.networks import predict
from fmnist.progress import track
from tools.inspection import robustness_figures
from tools.inspection.inspected import Network, load_network
from tools.inspection.robustness_report import mean_errors, write


def measure(
    run_dirs: Sequence[Path],
    data_dir: str | Path | None,
    output_dir: str | Path,
    seed: int = 0,
) -> dict[str, Any]:
    """Score networks on the original and on the corrupted test images, and write the results.

    Every image is classified once, without test-time augmentation. All runs classify the same
    corrupted images. robustness_report.write() writes the results.

    Args:
        run_dirs: run directories. The errors of the others are compared with those of the first.
        data_dir: folder with the data; None for the one that a run was trained on.
        output_dir: folder for the results.
        seed: random seed of the corruptions.

    Returns:
        The content of robustness.json. `runs` contains for every run, by its label: the scores of
        the original images (`clean`), the scores of every corruption by name, a list over the
        severities (`corrupted`), their means over all corruptions and severities (`mean_error`,
        `mean_ece`), and the mean corruption error relative to the first run (`mce`), see
        mean_corruption_error(). Accuracies and errors are fractions; `low` and `high` bound the
        95 % confidence interval of an accuracy; calibration errors (`ece`) are those after
        calibration.

    Raises:
        UserError: a DataError or a RunError.
    """
    networks = {}
    for label, run in labels_of(run_dirs).items():
        networks[label], dataset = load_network(run, data_dir)
    test = dataset.test
    scores = {label: {name: [] for name in CORRUPTIONS} for label in networks}
    clean = {label: score(network, test) for label, network in networks.items()}
    shown = robustness_figures.example_indices(test.labels)
    examples = {name: [test.images[index]] for name, index in shown.items()}
    conditions = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
    for name, severity in track(conditions, "Classifying corrupted images"):
        corrupted = test._replace(images=corrupt(test.images, name, severity, seed))
        # A copy, because a view would keep all corrupted images in memory.
        examples[name].append(corrupted.images[shown[name]].copy())
        for label, network in networks.items():
            scores[label][name].append(score(network, corrupted))
    results = {
        "seed": seed,
        "images": len(test.labels),
        "commit": runs.commit(),
        "processor": runtime.processor(),
        "date": datetime.date.today().isoformat(),
        "corruptions": {
            name: {"description": kind.description, "strengths": kind.strengths}
            for name, kind in CORRUPTIONS.items()
        },
        "runs": {
            label: summary(network, clean[label], scores[label], next(iter(scores.values())))
            for label, network in networks.items()
        },
    }
    write(Path(output_dir), results, examples)
    return results


def labels_of(run_dirs: Sequence[Path]) -> dict[str, Path]:
    """Return the runs by label: the name of the directory, with parents if names are equal.

    A run that is named twice is returned once.
    """
    given = {Path(run).resolve(): Path(run) for run in run_dirs}
    for length in itertools.count(1):
        labels = ["/".join(path.parts[-length:]) for path in given]
        if len(set(labels)) == len(labels):
            return dict(zip(labels, given.values(), strict=True))


def score(network: Network, part: data.Part) -> dict[str, float]:
    """Return accuracy, its confidence interval, mean confidence and calibration error."""
    probabilities = metrics.calibrated(
        predict(network.model, part.images), network.temperature, network.config["label_smoothing"]
    )
    accuracy = metrics.accuracy(part.labels, probabilities)
    low, high = metrics.accuracy_interval(accuracy, len(part.labels))
    return {
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "confidence": float(probabilities.max(axis=1).mean()),
        "ece": metrics.calibration_error(part.labels, probabilities),
    }


def summary(
    network: Network,
    clean: dict[str, float],
    corrupted: dict[str, list[dict[str, float]]],
    reference: dict[str, list[dict[str, float]]],
) -> dict[str, Any]:
    """Return the results of a run, see measure().

    Args:
        network: network of the run.
        clean: scores of the original images.
        corrupted: scores by corruption, one per severity.
        reference: scores of the first run by corruption, one per severity.
    """
    errors, reference_errors = mean_errors(corrupted), mean_errors(reference)
    return {
        "model": network.config["model"],
        "augment": network.config["augment"],
        "temperature": network.temperature,
        "mean_error": float(np.mean(list(errors.values()))),
        "mce": mean_corruption_error(errors, reference_errors),
        "mean_ece": float(np.mean([row["ece"] for rows in corrupted.values() for row in rows])),
        "clean": clean,
        "corrupted": corrupted,
    }


def mean_corruption_error(errors: dict[str, float], reference: dict[str, float]) -> float | None:
    """Return the mean ratio of errors to those of a reference network (mCE), 1 for the reference.

    Corruptions that are hard for every network count no more than others. Hendrycks and Dietterich,
    "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
    https://arxiv.org/abs/1903.12261

    Args:
        errors: mean error over the severities by corruption.
        reference: the same for the reference network.

    Returns:
        The mean ratio; None if the reference network makes no error under a corruption.
    """
    if 0 in reference.values():
        return None
    return float(np.mean([error / reference[name] for name, error in errors.items()]))
