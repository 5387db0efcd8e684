"""A trained network that classifies photographs the way it was evaluated."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from fmnist import cli, runs
from fmnist.evaluation import metrics, ood, tta
from fmnist.inference import photo
from fmnist.source import CLASS_NAMES

BATCH = 256
TOP_K = 3
OUT_OF_DISTRIBUTION = "it is unlike the images that the network was trained on"


class Classifier(NamedTuple):
    """A network and the way it was evaluated.

    Attributes:
        run: the run directory.
        flips, shifts: of tta.views().
        temperature: 1 if it was not evaluated.
        known: of ood.fit(), None if it was not evaluated.
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
            predict: what computes those of the network, if it is not to be model.predict.
        """
        predict = predict or (
            lambda images: self.model.predict(images, batch_size=BATCH, verbose=0)
        )
        outputs = [predict(view) for view in tta.views(images, self.flips, self.shifts)]
        return metrics.calibrated(np.mean(outputs, axis=0), self.temperature)

    def warnings(
        self, photos: Sequence[photo.Photo], images: np.ndarray, probabilities: np.ndarray
    ) -> list[list[str]]:
        """Return for every photo a list of reasons why its prediction is uncertain."""
        unlike = np.zeros(len(photos), bool)
        if self.known is not None:
            unlike = ood.is_novel(self.known, images, probabilities)
        return [
            [*converted.doubts, OUT_OF_DISTRIBUTION] if novel else converted.doubts
            for converted, novel in zip(photos, unlike, strict=True)
        ]

    def classify(
        self,
        photos: Sequence[photo.Photo],
        predict: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> tuple[np.ndarray, list[list[str]]]:
        """Return the class probabilities (N, 10) of photos, and for each its list of warnings."""
        images = np.stack([converted.image for converted in photos])
        probabilities = self.probabilities(images, predict)
        return probabilities, self.warnings(photos, images, probabilities)


def prediction(probabilities: np.ndarray, doubts: list[str]) -> dict[str, Any]:
    """Return the prediction of one picture as JSON has it. probabilities: (10,)."""
    best = np.argsort(-probabilities, kind="stable")[:TOP_K]
    top = [
        {"label": CLASS_NAMES[index], "confidence": round(float(probabilities[index]), 4)}
        for index in best
    ]
    return {**top[0], "guesses": top, "unsure": bool(doubts), "doubts": doubts}


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


def load_evaluation(run: Path) -> dict[str, Any] | None:
    """Return the metrics of a run, None if it has trained since. Raises RunError."""
    path = run / runs.METRICS
    if not path.exists():
        return None
    try:
        # Earlier versions had no shifts.
        evaluation = {
            "test_time_shifts": False,
            **json.loads(path.read_text()),
        }
        if not 0.1 < evaluation["temperature"] < 10:
            raise ValueError("its temperature is impossible")
        if not all(isinstance(evaluation[option], bool) for option in runs.VIEWS):
            raise ValueError("it does not say how the network is asked")
        return evaluation if evaluation["epochs"] == len(runs.load_history(run)) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise runs.RunError(
            f"{path} is broken ({cli.one_line(error)}); make it again with: "
            f"python evaluate_model.py {shlex.quote(str(run))}"
        ) from None


def load_novelty(run: Path, evaluation: dict[str, Any]) -> ood.Novelty:
    """Return what the training images of a run look like. Raises RunError."""
    path = run / runs.NOVELTY
    try:
        with np.load(path, allow_pickle=False) as saved:
            known = ood.Novelty(**saved)
        blank = np.zeros((1, *photo.SHAPE), np.float32), np.zeros((1, len(CLASS_NAMES)), np.float32)
        ood.is_novel(known, *blank)  # which arrays of other shapes do not allow
        if not all(np.isfinite(array).all() for array in known):
            raise ValueError("it holds what is no number")
        return known
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged archive makes NumPy raise
        options = "".join(
            f" --{option.replace('_', '-')}" for option in runs.VIEWS if evaluation[option]
        )
        raise runs.RunError(
            f"{path} is missing or broken ({cli.one_line(error)}); make it with: "
            f"python evaluate_model.py {shlex.quote(str(run))}{options}"
        ) from None
