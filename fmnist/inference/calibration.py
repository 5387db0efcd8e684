"""The calibration of a network on photographs: temperature, and the limit of uncertain predictions.

A temperature that was fitted on Fashion-MNIST is too low for photographs, which are harder.
"""

import json
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fmnist import atomic_io, cli, runs
from fmnist.evaluation import metrics

FILE = "photos.json"  # in the run directory
# The certain predictions for held-out photographs have this accuracy. They are home photographs,
# the hardest kind.
CERTAIN_ACCURACY = 0.9
LEAST_PHOTOGRAPHS = 100  # for a calibration
LEAST_CERTAIN = 20  # predictions that decide the limit


class Calibration(NamedTuple):
    """The calibration of a network on photographs.

    Attributes:
        temperature: calibration temperature.
        least_confidence: a prediction with a lower calibrated confidence is uncertain.
        accuracy: accuracy on the photographs of the calibration.
        certain: fraction of these whose prediction is not uncertain.
        certain_accuracy: accuracy of these predictions.
        photographs: number of photographs of the calibration.
    """

    temperature: float
    least_confidence: float
    accuracy: float
    certain: float
    certain_accuracy: float
    photographs: int


def fit(targets: np.ndarray, probabilities: np.ndarray) -> Calibration | None:
    """Return the calibration on held-out photographs; None if there are too few.

    Args:
        targets: 1 for the classes that a label stands for, else 0, (N, 10). Photographs whose label
            stands for several classes are left out.
        probabilities: class probabilities (N, 10), not calibrated.
    """
    is_exact = targets.sum(axis=1) == 1
    if is_exact.sum() < LEAST_PHOTOGRAPHS:
        return None
    labels, probabilities = targets[is_exact].argmax(axis=1), probabilities[is_exact]
    temperature = metrics.fit_temperature(labels, probabilities)
    calibrated = metrics.calibrated(probabilities, temperature)
    confidence, correct = calibrated.max(axis=1), calibrated.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    accuracies = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    # The largest number of predictions, the most confident first, that are accurate enough.
    enough = np.flatnonzero(accuracies[LEAST_CERTAIN - 1 :] >= CERTAIN_ACCURACY)
    count = enough[-1] + LEAST_CERTAIN if len(enough) else LEAST_CERTAIN
    limit = float(confidence[order[count - 1]])
    certain = confidence >= limit
    return Calibration(
        float(temperature),
        limit,
        float(correct.mean()),
        float(certain.mean()),
        float(correct[certain].mean()),
        len(labels),
    )


def save(run: Path, calibration: Calibration) -> None:
    """Write the calibration into a run directory."""
    atomic_io.write_json(run / FILE, calibration._asdict())


def load(run: Path) -> Calibration | None:
    """Return the calibration of a run; None if it was not trained on photographs.

    Raises:
        RunError: the file is corrupt.
    """
    path = run / FILE
    if not path.exists():
        return None
    try:
        calibration = Calibration(**json.loads(path.read_text(encoding="utf-8")))
        if not 0.1 < calibration.temperature < 10 or not 0 <= calibration.least_confidence <= 1:
            raise ValueError("the temperature or the least confidence is out of range")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise runs.RunError(
            f"{path} is corrupt ({cli.one_line(error)}); train again: "
            f"python -m tools.finetune_photos PHOTOS --run {shlex.quote(str(run))}"
        ) from None
    return calibration
