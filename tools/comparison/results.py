"""The result of one training: result.json in its run directory."""

import json
import re
from pathlib import Path
from typing import Any

from fmnist import cli, runs, source
from fmnist.config import TrainConfig
from tools.comparison.contestants import group_of

RESULT = "result.json"
SCORES = ("val_accuracy", "accuracy", "precision", "recall", "f1")
MEASURED = ("train_accuracy", "seconds", "latency_ms")
# The settings that a classical classifier uses.
DATA_SETTINGS = ("seed", "val_size", "limit", "fold")


class CompareError(cli.UserError):
    """The comparison failed."""


def load_result(folder: Path) -> dict[str, Any]:
    """Return the result in a folder. Raises CompareError."""
    try:
        result = json.loads((folder / RESULT).read_text())
        if not all(isinstance(result["settings"][key], int) for key in ("seed", "epochs")):
            raise ValueError("seed and epochs must be integers")
        if not isinstance(result["parameters"], int | None):
            raise ValueError("parameters must be an integer or null")
        if not all(isinstance(result[key], float) for key in (*SCORES, *MEASURED)):
            raise ValueError("scores and times must be floating-point numbers")
        if not re.fullmatch(
            f"[0-9]{{{source.FILES['t10k-labels-idx1-ubyte'].shape[0]}}}", result["predicted"]
        ):
            raise ValueError("predicted must have one digit per test image")
        return result
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else cli.one_line(error)
        raise CompareError(
            f"{folder / RESULT} is corrupt ({reason}); remove it and run the command again"
        ) from None


def is_current(name: str, config: TrainConfig, recorded: dict[str, Any]) -> bool:
    """Return whether the recorded settings of a contestant give the same result as a config."""
    if group_of(name) == "baselines":
        return all(recorded.get(key) == getattr(config, key) for key in DATA_SETTINGS)
    return config.gives_the_same_as(recorded)


def is_finished(name: str, folder: Path, config: TrainConfig) -> bool:
    """Return whether the result of a contestant exists.

    Raises:
        CompareError: the settings of the result differ from `config`.
    """
    finished = (folder / RESULT).exists()
    if finished or (folder / runs.CONFIG).exists():
        recorded = load_result(folder)["settings"] if finished else runs.load_config(folder)
        if not is_current(name, config, recorded):
            raise CompareError(
                f"{folder} was trained with other settings; remove it, or choose another "
                "--output-dir"
            )
    return finished
