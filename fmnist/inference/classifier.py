"""A trained network that classifies photographs with the settings of its evaluation."""

import base64
import io
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from PIL import Image

from fmnist import cli, runs
from fmnist.evaluation import metrics, ood, tta
from fmnist.inference import photo
from fmnist.source import CLASS_NAMES

BATCH = 256
TOP_K = 3
OUT_OF_DISTRIBUTION = "out of distribution: unlike the training images, or low confidence"


class Classifier(NamedTuple):
    """A network with the settings of its evaluation.

    Attributes:
        run: run directory.
        model: network that returns class probabilities.
        flips: whether to average over mirror images, see tta.views().
        shifts: whether to average over shifted images, see tta.views().
        temperature: calibration temperature; 1 for a run without evaluation.
        known: result of ood.fit(); None for a run without evaluation.
    """

    run: Path
    model: keras.Model
    flips: bool
    shifts: bool
    temperature: float
    known: ood.Novelty | None

    def probabilities(
        self, images: np.ndarray, predict: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> np.ndarray:
        """Return the calibrated class probabilities (N, 10) of images (N, 28, 28, 1).

        Args:
            images: (N, 28, 28, 1) in [0, 1].
            predict: function of images that returns the uncalibrated probabilities; None for
                model.predict.
        """
        predict = predict or (
            lambda images: self.model.predict(images, batch_size=BATCH, verbose=0)
        )
        outputs = [predict(view) for view in tta.views(images, self.flips, self.shifts)]
        return metrics.calibrated(np.mean(outputs, axis=0), self.temperature)

    def warnings(
        self, photos: Sequence[photo.Photo], images: np.ndarray, probabilities: np.ndarray
    ) -> list[list[str]]:
        """Return for every photo the list of reasons why its prediction is uncertain."""
        out_of_distribution = np.zeros(len(photos), bool)
        if self.known is not None:
            out_of_distribution = ood.is_novel(self.known, images, probabilities)
        return [
            [*converted.warnings, OUT_OF_DISTRIBUTION] if is_out else converted.warnings
            for converted, is_out in zip(photos, out_of_distribution, strict=True)
        ]

    def classify(
        self,
        photos: Sequence[photo.Photo],
        predict: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> tuple[np.ndarray, list[list[str]]]:
        """Return the class probabilities (N, 10) and the lists of warnings of N photos."""
        images = np.stack([converted.image for converted in photos])
        probabilities = self.probabilities(images, predict)
        return probabilities, self.warnings(photos, images, probabilities)


def prediction(
    converted: photo.Photo, probabilities: np.ndarray, warnings: list[str]
) -> dict[str, Any]:
    """Return the prediction for one photo as a JSON object.

    Args:
        converted: the photo.
        probabilities: class probabilities (10,).
        warnings: reasons why the prediction is uncertain.
    """
    rounded = [round(float(probability), 4) for probability in probabilities]
    best = np.argsort(-probabilities, kind="stable")[:TOP_K]
    top_k = [{"label": CLASS_NAMES[index], "confidence": rounded[index]} for index in best]
    return {
        **top_k[0],
        "top_k": top_k,
        "uncertain": bool(warnings),
        "warnings": warnings,
        "probabilities": dict(zip(CLASS_NAMES, rounded, strict=True)),
        "model_input": data_url(converted.image),
    }


def data_url(image: np.ndarray) -> str:
    """Return an image (28, 28, 1) in [0, 1] as the data URL of a PNG file."""
    stream = io.BytesIO()
    pixels = (image[..., 0] * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def load_classifier(run: Path) -> Classifier:
    """Return the Classifier of a run. Raises RunError."""
    runs.load_config(run)
    model, evaluation = runs.load_model(run), load_evaluation(run)
    if evaluation is None:
        return Classifier(run, model, False, False, 1, None)
    return Classifier(
        run,
        model,
        evaluation["test_time_flips"],
        evaluation["test_time_shifts"],
        evaluation["temperature"],
        load_novelty(run, evaluation),
    )


def evaluation_hint(run: Path) -> str:
    """Return the message for a run whose last epoch is not evaluated."""
    return (
        "The last epoch of this run is not evaluated: confidences are not calibrated and "
        "out-of-distribution pictures are not detected. To change that, run: "
        f"python evaluate_model.py {shlex.quote(str(run))}"
    )


def load_evaluation(run: Path) -> dict[str, Any] | None:
    """Return the metrics of a run; None if its last epoch is not evaluated. Raises RunError."""
    path = run / runs.METRICS
    if not path.exists():
        return None
    try:
        # An older file has no shifts, and the former name of `uncertain`.
        evaluation = {"test_time_shifts": False, **json.loads(path.read_text())}
        evaluation.setdefault("uncertain", evaluation.pop("unsure", None))
        if not 0.1 < evaluation["temperature"] < 10:
            raise ValueError("the temperature is not between 0.1 and 10")
        if not all(isinstance(evaluation[option], bool) for option in runs.VIEWS):
            raise ValueError("test_time_flips and test_time_shifts must be true or false")
        return evaluation if evaluation["epochs"] == len(runs.load_history(run)) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise runs.RunError(
            f"{path} is corrupt ({cli.one_line(error)}); create it again: "
            f"python evaluate_model.py {shlex.quote(str(run))}"
        ) from None


def load_novelty(run: Path, evaluation: dict[str, Any]) -> ood.Novelty:
    """Return the statistics of a run's training images, see ood.fit(). Raises RunError."""
    path = run / runs.NOVELTY
    try:
        with np.load(path, allow_pickle=False) as saved:
            known = ood.Novelty(**saved)
        blank = np.zeros((1, *photo.SHAPE), np.float32), np.zeros((1, len(CLASS_NAMES)), np.float32)
        ood.is_novel(known, *blank)  # fails for arrays of other shapes
        if not all(np.isfinite(array).all() for array in known):
            raise ValueError("it contains NaN or infinite values")
        return known
    except MemoryError:
        raise
    except Exception as error:  # a corrupt archive raises many kinds
        options = "".join(
            f" --{option.replace('_', '-')}" for option in runs.VIEWS if evaluation[option]
        )
        raise runs.RunError(
            f"{path} is missing or corrupt ({cli.one_line(error)}); create it: "
            f"python evaluate_model.py {shlex.quote(str(run))}{options}"
        ) from None
