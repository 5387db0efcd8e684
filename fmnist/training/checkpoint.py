"""The exact state of an unfinished run, from which `--resume` continues."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fmnist import atomic_io, runs
from fmnist.config import TrainConfig

STATE = "state.npz"  # in the folder checkpoint/ of a run


def save_state(run: Path, variables: list[np.ndarray], history: list[runs.Row]) -> None:
    """Save the state after an epoch.

    Args:
        run: run directory.
        variables: values of the variables of model, optimizer and data pruning.
        history: all epochs so far.
    """
    with atomic_io.atomic_write(run / runs.CHECKPOINT / STATE) as path:
        np.savez(path, *variables, history=json.dumps(history))


def load_state(run: Path) -> tuple[list[np.ndarray], list[runs.Row]]:
    """Return the arguments `variables` and `history` of save_state().

    Both are empty if no epoch has been saved.

    Raises:
        RunError: the file is missing or corrupt.
    """
    path = run / runs.CHECKPOINT / STATE
    # The state is written before the other files of an epoch.
    if not any(os.path.lexists(file) for file in (path, run / runs.MODEL, run / runs.HISTORY_FILE)):
        return [], []
    runs.check_file(path)
    try:
        with np.load(path, allow_pickle=False) as state:
            history = runs.checked_history(json.loads(str(state["history"])))
            return [state[f"arr_{index}"] for index in range(len(state) - 1)], history
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # a corrupt archive raises many kinds
        raise runs.corrupt(path, runs.first_line(error)) from None


def restore(run: Path, config: TrainConfig, model: Any, variables: list) -> list[runs.Row]:
    """Restore the variables of an unfinished run and return its history.

    The state of an epoch is written before history.csv and model.keras. If the process was killed
    in between, these files are one epoch behind; therefore they are written again.

    Args:
        run: run directory.
        config: settings of the run.
        model: model to save, whose weights are among the variables.
        variables: variables to restore, in the order of save_state().

    Raises:
        RunError: the state is missing or corrupt, or belongs to another network.
    """
    arrays, history = load_state(run)
    if not history:
        return history
    expected = [(tuple(variable.shape), variable.dtype) for variable in variables]
    if [(array.shape, array.dtype.name) for array in arrays] != expected:
        raise runs.RunError(
            f"{run / runs.CHECKPOINT / STATE} belongs to another network than the one in "
            f"{runs.CONFIG}. {runs.TRAIN_AGAIN}"
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    is_best = history[-1] is runs.chosen_epoch(config.patience, history)
    runs.save_epoch(run, history, model if is_best else None)
    return history
