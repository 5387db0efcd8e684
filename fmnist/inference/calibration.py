"""The calibration of a network on photographs: temperature, and the limit of uncertain predictions.

A temperature that was fitted on Fashion-MNIST is wrong for photographs, which are harder. It is
right for photographs on a plain background, whose model inputs are like the data set. So there are
two calibrations. Neither undoes label smoothing, whose effect was measured without photographs.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fmnist import atomic_io, cli, runs
from fmnist.evaluation import metrics

FILE = "photos.json"  # in the run directory
CERTAIN_ACCURACY = 0.93  # of the certain predictions for held-out photographs
LEAST_PHOTOGRAPHS = 100  # for a calibration
LEAST_CERTAIN = 20  # predictions that decide the limit
UNCERTAIN_OUTLIERS = 0.9  # fraction of the outliers whose prediction is uncertain


class Calibration(NamedTuple):
    """A calibration on held-out images.

    Attributes:
        temperature: calibration temperature.
        least_confidence: a prediction with a lower calibrated confidence is uncertain.
        accuracy: accuracy on the held-out images.
        certain: fraction of these whose prediction is not uncertain.
        certain_accuracy: accuracy of these predictions.
        images: number of the held-out images.
    """

    temperature: float
    least_confidence: float
    accuracy: float
    certain: float
    certain_accuracy: float
    images: int


class Calibrations(NamedTuple):
    """The calibrations of a network.

    Attributes:
        plain: for photographs on a plain background, see photo.CutOut.
        other: for all other photographs.
    """

    plain: Calibration
    other: Calibration


def fit(targets: np.ndarray, probabilities: np.ndarray) -> Calibration | None:
    """Return the calibration on held-out photographs; None with fewer than LEAST_PHOTOGRAPHS.

    The limit is the lowest with which the certain predictions have CERTAIN_ACCURACY; if there is
    none, the LEAST_CERTAIN most confident predictions are certain.

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
    return with_limit(confidence[order[count - 1]], temperature, labels, calibrated)


def fit_to_outliers(
    labels: np.ndarray, probabilities: np.ndarray, outliers: np.ndarray
) -> Calibration:
    """Return the calibration for photographs on a plain background.

    The limit is the lowest with which UNCERTAIN_OUTLIERS of the outliers are uncertain.

    Args:
        labels: labels (N,) of held-out images of Fashion-MNIST.
        probabilities: their class probabilities (N, 10), not calibrated.
        outliers: those of images that show no item of clothing, (M, 10).
    """
    temperature = metrics.fit_temperature(labels, probabilities)
    confidence = metrics.calibrated(outliers, temperature).max(axis=1)
    limit = np.quantile(confidence, UNCERTAIN_OUTLIERS)
    calibrated = metrics.calibrated(probabilities, temperature)
    return with_limit(limit, temperature, labels, calibrated)


def with_limit(
    limit: float, temperature: float, labels: np.ndarray, calibrated: np.ndarray
) -> Calibration:
    """Return a calibration.

    Args:
        limit: least confidence of a certain prediction.
        temperature: calibration temperature.
        labels: labels (N,) of held-out images.
        calibrated: their calibrated class probabilities (N, 10).
    """
    certain, correct = calibrated.max(axis=1) >= limit, calibrated.argmax(axis=1) == labels
    return Calibration(
        float(temperature),
        float(limit),
        float(correct.mean()),
        float(certain.mean()),
        float(correct[certain].mean()) if certain.any() else 0.0,
        len(labels),
    )


def save(run: Path, calibrations: Calibrations) -> None:
    """Write the calibrations into a run directory."""
    content = {name: values._asdict() for name, values in calibrations._asdict().items()}
    atomic_io.write_json(run / FILE, content)


def load(run: Path) -> Calibrations | None:
    """Return the calibrations of a run; None if it was not trained on photographs.

    Raises:
        RunError: the file is corrupt.
    """
    path = run / FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        saved = Calibrations(**{name: Calibration(**values) for name, values in content.items()})
        for values in saved:
            if not 0.1 < values.temperature < 10 or not 0 <= values.least_confidence <= 1:
                raise ValueError("the temperature or the least confidence is out of range")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise runs.RunError(
            f"{path} is corrupt ({cli.one_line(error)}); train again from another run: "
            "python -m tools.finetune_photos PHOTOS --run pretrained/best"
        ) from None
    return saved
