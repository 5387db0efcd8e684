"""The state of an unfinished run, exact to the last bit: what `--resume` needs."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fmnist import atomic_io, runs
from fmnist.config import TrainConfig

STATE = "state.npz"  # in the folder checkpoint of a run


def save_state(run: Path, variables: list[np.ndarray], history: list[runs.Row]) -> None:
    """Write what it takes to resume after the last epoch of `history`."""
    with atomic_io.atomic_write(run / runs.CHECKPOINT / STATE) as path:
        np.savez(path, *variables, history=json.dumps(history))


def load_state(run: Path) -> tuple[list[np.ndarray], list[runs.Row]]:
    """Return variables and history as save_state() got them; two empty lists without an epoch.

    Raises RunError.
    """
    path = run / runs.CHECKPOINT / STATE
    # The state is the first file of an epoch.
    if not any(os.path.lexists(file) for file in (path, run / runs.MODEL, run / runs.HISTORY_FILE)):
        return [], []
    runs.check_file(path)
    try:
        with np.load(path, allow_pickle=False) as state:
            history = runs.checked_history(json.loads(str(state["history"])))
            return [state[f"arr_{index}"] for index in range(len(state) - 1)], history
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # whatever a damaged archive makes NumPy raise
        raise runs.RunError(
            f"{path} is broken ({runs.first_line(error)}); train the run again"
        ) from None


def restore(run: Path, config: TrainConfig, model: Any, variables: list) -> list[runs.Row]:
    """Restore the variables of an unfinished run and return its history.

    The state is written first at an epoch's end: what was to follow may be missing, and is written
    now. Raises RunError.
    """
    arrays, history = load_state(run)
    if not history:
        return history
    expected = [(tuple(variable.shape), variable.dtype) for variable in variables]
    if [(array.shape, array.dtype.name) for array in arrays] != expected:
        raise runs.RunError(
            f"{run / runs.CHECKPOINT / STATE} belongs to another network than {runs.CONFIG} names"
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    is_best = history[-1] is runs.chosen_epoch(config.patience, history)
    runs.save_epoch(run, history, model if is_best else None)
    return history
