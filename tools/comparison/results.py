"""The result of one training: result.json in its folder."""

import json
import re
from pathlib import Path
from typing import Any

from fmnist import cli, runs, source
from fmnist.config import TrainConfig

RESULT = "result.json"
SCORES = ("val_accuracy", "accuracy", "precision", "recall", "f1")
MEASURED = ("train_accuracy", "seconds", "latency_ms")


class CompareError(cli.UserError):
    """The comparison cannot be made."""


def load_result(folder: Path) -> dict[str, Any]:
    """Return the result in a folder. Raises CompareError."""
    try:
        result = json.loads((folder / RESULT).read_text())
        if not isinstance(result["settings"]["seed"], int) or not isinstance(
            result["parameters"], int | None
        ):
            raise ValueError("it does not say what was trained")
        if not all(isinstance(result[key], float) for key in (*SCORES, *MEASURED)):
            raise ValueError("it holds no scores")
        if not re.fullmatch(
            f"[0-9]{{{source.FILES['t10k-labels-idx1-ubyte'].shape[0]}}}", result["predicted"]
        ):
            raise ValueError("it does not hold a class for every test image")
        return result
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompareError(
            f"{folder / RESULT} is broken ({cli.one_line(error)}); remove it"
        ) from None


def is_finished(folder: Path, config: TrainConfig) -> bool:
    """Return whether there is a result. Raises CompareError if it is of other settings."""
    finished = (folder / RESULT).exists()
    if finished or (folder / runs.CONFIG).exists():
        recorded = load_result(folder)["settings"] if finished else runs.load_config(folder)
        if not config.gives_the_same_as(recorded):
            raise CompareError(
                f"{folder} was made with other options; choose another --output-dir, or remove it"
            )
    return finished
