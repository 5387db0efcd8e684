"""The run directory: the only thing that training hands on.

    runs/20261121-140312-dropout_cnn/
        config.json     every setting of the run, and what it ran on
        model.keras     the chosen weights, with the architecture
        history.csv     one row an epoch, with the columns HISTORY
        checkpoint/     what it takes to go on; stands as long as the run is not finished

Every file appears whole or not at all, and no run is ever overwritten.
"""

import contextlib
import csv
import datetime
import errno
import json
import math
import os
import re
import shutil
import subprocess
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np

from fmnist import atomic_io

FORMAT = 1  # of the run directory; goes up when an older version of this project would misread it
CONFIG, MODEL, HISTORY_FILE, CHECKPOINT = "config.json", "model.keras", "history.csv", "checkpoint"
STATE = "state.npz"  # in checkpoint/
HISTORY = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
ABOUT = ("format", "fingerprint", "created", "versions", "commit")  # in config.json beside the settings
LARGEST_LOSS = 3.5e38  # of float32, and a little for rounding
PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "matplotlib")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class RunError(Exception):
    """A run is missing, unfinished, broken or in the way. One line, for the user."""


def create(runs_dir, name, config):
    """Make a run directory with its config.json and return its path. Raises RunError.

    name: None for one made of the time and the model.
    """
    now = datetime.datetime.now().astimezone()
    record = {"format": FORMAT, **config, "created": now.isoformat(), "versions": _versions(), "commit": _commit()}
    stem = name or f"{now:%Y%m%d-%H%M%S}-{config['model']}"
    candidates = [stem] if name else [stem, *(f"{stem}-{number}" for number in range(2, 100))]
    try:
        with atomic_io.unfinished_folder(Path(runs_dir)) as unfinished:
            (unfinished / "run" / CHECKPOINT).mkdir(parents=True)
            atomic_io.write_json(unfinished / "run" / CONFIG, record)
            for candidate in candidates:
                run = Path(runs_dir) / candidate
                if not os.path.lexists(run) and _rename_folder(unfinished / "run", run):
                    return run
    except OSError as error:
        raise RunError(f"{Path(runs_dir) / stem} cannot be made ({error.strerror}); "
                       "choose another --runs-dir") from None
    raise RunError(f"{Path(runs_dir) / stem} is there already; choose another --name or --runs-dir")


@contextlib.contextmanager
def lock(run):
    """Keep other processes from training this run meanwhile. Raises RunError where one is at it."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    folder = os.open(run / CHECKPOINT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{run} is being trained by another process") from None
        atomic_io.sweep(run / CHECKPOINT)
        yield
    finally:
        os.close(folder)


def save_epoch(run, history, model=None):
    """Write the history, and the model where there is a new one.

    history: a dict an epoch, with the keys HISTORY.
    """
    with atomic_io.whole_files(run) as folder:
        if model:
            model.save(folder / MODEL)
        with open(folder / HISTORY_FILE, "w", newline="") as stream:
            writer = csv.DictWriter(stream, HISTORY)
            writer.writeheader()
            writer.writerows({key: f"{value:.9g}" for key, value in row.items()} for row in history)


def save_state(run, variables, history):
    """Write what it takes to go on after the last epoch of `history`, as it is to the last bit.

    variables: a list of arrays.
    """
    with atomic_io.whole_file(run / CHECKPOINT / STATE) as path:
        np.savez(path, *variables, history=json.dumps(history))


def load_state(run):
    """Return variables and history as save_state got them; two empty lists where no epoch was finished.

    Raises RunError.
    """
    path = run / CHECKPOINT / STATE
    if not any(os.path.lexists(file) for file in (path, run / MODEL, run / HISTORY_FILE)):  # the state is the first
        return [], []
    _check_file(path)
    try:
        with np.load(path, allow_pickle=False) as state:
            history = _checked(json.loads(str(state["history"])))
            return [state[f"arr_{number}"] for number in range(len(state) - 1)], history
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # whatever a damaged archive makes NumPy raise
        raise RunError(f"{path} is broken ({_first_line(error)}); train the run again") from None


def finish(run):
    """Take away what only an unfinished run needs, by a single rename first."""
    done = run / atomic_io.unfinished_name(CHECKPOINT)
    os.replace(run / CHECKPOINT, done)
    shutil.rmtree(done)


def is_finished(run):
    return (run / MODEL).is_file() and not (run / CHECKPOINT).exists()


def was_broken_off(run):
    """Return whether to go on with a run makes sense: no other process trains it, and its loss is still a number."""
    if is_finished(run):
        return False
    try:
        with lock(run):
            pass
    except (RunError, FileNotFoundError):  # it is being trained, or is finished by now
        return False
    except OSError:
        return True
    try:
        return not diverged(load_history(run))
    except RunError:  # it has no epoch, or is damaged, which is said when it is loaded
        return True


def diverged(history):
    """Return whether the loss is no number any more."""
    return bool(history) and not math.isfinite(history[-1]["loss"] + history[-1]["val_loss"])


def newest(runs_dir, finished=True):
    """Return the path of the run that was created last, of those that are finished, or were broken off. Raises RunError."""
    created = {}
    for path in Path(runs_dir).glob(f"*/{CONFIG}"):
        if is_finished(path.parent) if finished else was_broken_off(path.parent):
            with contextlib.suppress(RunError, KeyError, ValueError, TypeError):
                moment = datetime.datetime.fromisoformat(load_config(path.parent)["created"])
                created[path.parent] = moment.timestamp()
    if not created:
        raise RunError(f"no {'' if finished else 'un'}finished run in {runs_dir}; train one with: python train_cnn.py")
    return max(created, key=created.get)


def load_config(run):
    """Return the config as a dict. Raises RunError."""
    path = run / CONFIG
    if not run.is_dir():
        raise RunError(f"{run} is not a run directory; train one with: python train_cnn.py")
    if not os.path.lexists(path):
        raise RunError(f"{run} is not a run directory: it has no {CONFIG}")
    _check_file(path)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read ({_first_line(error)})") from None
    if not isinstance(config, dict):
        raise RunError(f"{path} is broken: it holds no settings")
    if config.get("format", FORMAT) != FORMAT:
        raise RunError(f"{path} is from another version of this project, or broken: its format is not {FORMAT}")
    return config


def load_history(run):
    """Return a dict an epoch, with numbers under the keys HISTORY. Raises RunError."""
    path = run / HISTORY_FILE
    _check_file(path)
    try:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            raise ValueError("it is cut off")
        history = _checked(csv.DictReader(text.splitlines()))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise RunError(f"{path} is broken ({_first_line(error)})") from None
    if not history:
        raise RunError(f"{path} is broken: it holds no epoch")
    return history


def _checked(rows):
    """Return the rows of a history as numbers. Raises ValueError, KeyError, TypeError or OverflowError."""
    history = [{key: float(row[key]) for key in HISTORY} | {"epoch": int(row["epoch"])} for row in rows]
    for number, row in enumerate(history, 1):
        if row["epoch"] != number:
            raise ValueError(f"epoch {number} is not in its place")
        if any(row[key] < 0 or LARGEST_LOSS < row[key] < math.inf for key in ("loss", "val_loss")):
            raise ValueError(f"a loss of epoch {number} is impossible")
        if not all(0 <= row[key] <= 1 for key in ("accuracy", "val_accuracy")):
            raise ValueError(f"an accuracy of epoch {number} is not from 0 to 1")
        if not all(0 <= row[key] < math.inf for key in ("learning_rate", "seconds")):
            raise ValueError(f"the learning rate or the seconds of epoch {number} are impossible")
    return history


def load_model(run):
    """Return the Keras model. Raises RunError."""
    import keras

    path = run / MODEL
    _check_file(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            model = keras.models.load_model(path, safe_mode=True)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # whatever a damaged archive makes Keras raise
        raise RunError(f"{path} is broken ({_first_line(error)}); train the run again") from None
    if not isinstance(model, keras.Model):
        raise RunError(f"{path} is broken: it holds no model")
    return model


def load_model_and_history(run):
    """Return both, of the same epoch, though the run may still be training. Raises RunError."""
    path, before = run / HISTORY_FILE, None
    while True:
        _check_file(path)
        if (now := path.read_bytes()) == before:
            return model, load_history(run)
        model, before = load_model(run), now


def chosen_epoch(config, history):
    """Return the row of the epoch whose weights model.keras holds.

    With early stopping it is the first with the lowest validation loss, else the last one. Epochs
    whose loss is no number do not count; None where no other is left.
    """
    finite = [row for row in history if math.isfinite(row["val_loss"])]
    if config["patience"]:
        return min(finite, key=lambda row: row["val_loss"], default=None)
    return finite[-1] if finite else None


def discard(run):
    """Remove a run that never finished an epoch."""
    if not (run / MODEL).exists():
        shutil.rmtree(run)


def _check_file(path):
    """Raise RunError where this is no file that can be opened, a pipe for one."""
    if not path.is_file():
        raise RunError(f"{path} is {'not a file' if os.path.lexists(path) else 'missing'}")


def _versions():
    """Return the version of every package, None for one that is not installed under that name."""
    versions = dict.fromkeys(PACKAGES)
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _commit():
    """Return this project's git commit, with "+" where files were changed since; None without git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None


def _first_line(error):
    return str(error).strip().split("\n")[0]


def _rename_folder(path, place):
    """Return whether it was done; not where another process has taken the place."""
    try:
        path.rename(place)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    return True
