"""The run directory, through which training passes its results to all other commands.

    runs/20261121-140312-dropout_cnn/
        config.json     all settings, package versions, git commit and data fingerprint
        model.keras     weights and architecture
        history.csv     one row per epoch, with the columns HISTORY
        checkpoint/     state for --resume; removed when the run is finished
        tensorboard/    logs for TensorBoard, with --tensorboard
    metrics.json, predictions.npz, novelty.npz, figures/, report.html    from evaluate_model.py

Every write is atomic, and an existing run is never overwritten.
"""

import contextlib
import csv
import datetime
import errno
import functools
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from fmnist import atomic_io, cli, model_file, source
from fmnist.config import (
    ADDED_LATER,
    ConfigError,
    TrainConfig,
    flags_of_start,
    with_current_names,
)

# Version of the run directory's format. Increase it if older code would misread a new run.
FORMAT = 1
CONFIG, MODEL, HISTORY_FILE, CHECKPOINT = "config.json", "model.keras", "history.csv", "checkpoint"
TENSORBOARD = "tensorboard"
METRICS, PREDICTIONS, NOVELTY = "metrics.json", "predictions.npz", "novelty.npz"
# Keys of metrics.json: the test-time augmentation of the evaluation.
VIEWS = ("test_time_flips", "test_time_shifts")
HISTORY = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
# Keys of config.json that are not settings.
OTHER_KEYS = ("format", "fingerprint", "created", "versions", "commit")
LARGEST_LOSS = 3.5e38  # the largest float32 value, with a margin for rounding
PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "matplotlib")
# The networks that are part of the project.
PRETRAINED = Path(__file__).parent.parent / "pretrained"
BEST, FOR_PHOTOS = PRETRAINED / "best", PRETRAINED / "photo"
TRAIN_AGAIN = "Train the run again: python train_cnn.py"
# Types of the settings that an evaluation needs. Runs of earlier versions may lack the others, and
# those in ADDED_LATER.
EVALUATION_SETTINGS = {
    "model": str,
    "epochs": int,
    "patience": int,
    "seed": int,
    "val_size": int,
    "limit": int | None,
    "fold": int | None,
    "data_dir": str | None,
    "augment": str,
    "label_smoothing": float | int,
    "fingerprint": str,
}
Row = dict[str, float]  # an epoch of a history, with the keys HISTORY


class RunError(cli.UserError):
    """A run is missing, unfinished or corrupt, or its name exists already."""


def create(runs_dir: str | Path, name: str | None, config: dict[str, Any]) -> Path:
    """Create a run directory with its config.json and return its path.

    Args:
        runs_dir: parent folder, created if necessary.
        name: name of the run directory; None for a name made from the time and the network.
        config: settings, the content of config.json.

    Raises:
        RunError: the directory exists already or cannot be created.
    """
    now = datetime.datetime.now().astimezone()
    record = {
        "format": FORMAT,
        **config,
        "created": now.isoformat(),
        "versions": _versions(),
        "commit": commit(),
    }
    stem = name or f"{now:%Y%m%d-%H%M%S}-{config['model']}"
    candidates = [stem] if name else [stem, *(f"{stem}-{number}" for number in range(2, 100))]
    try:
        with atomic_io.temporary_folder(Path(runs_dir)) as temporary:
            (temporary / "run" / CHECKPOINT).mkdir(parents=True)
            atomic_io.write_json(temporary / "run" / CONFIG, record)
            for candidate in candidates:
                run = Path(runs_dir) / candidate
                if not os.path.lexists(run) and _rename_folder(temporary / "run", run):
                    return run
    except OSError as error:
        raise RunError(
            f"{Path(runs_dir) / stem} cannot be created ({error.strerror}); choose another "
            "--runs-dir"
        ) from None
    raise exists_already(Path(runs_dir) / stem)


def check_new(runs_dir: Path, name: str | None) -> None:
    """Raise RunError if a run directory of this name exists. None has no name yet."""
    if name and os.path.lexists(runs_dir / name):
        raise exists_already(runs_dir / name)


def exists_already(run: Path) -> RunError:
    """Return the error for the name of a run that exists."""
    return RunError(f"{run} exists already; choose another --name or --runs-dir")


@contextlib.contextmanager
def lock(run: Path) -> Iterator[None]:
    """Keep other processes from training a run while the context is active.

    Where locks are not supported, a warning is printed once, and the run is not locked.

    Raises:
        RunError: another process trains the run.
    """
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
            raise RunError(
                f"{run} is being trained by another process; wait for it to finish, or stop it"
            ) from None
        except OSError as error:  # of some network drives, with various error numbers
            warn_without_locks(run.parent, error.strerror)
        atomic_io.remove_stale_temp_files(run / CHECKPOINT)
        yield
    finally:
        os.close(folder)


@functools.cache
def warn_without_locks(folder: Path, reason: str) -> None:
    """Print a warning about a folder on a file system without locks."""
    print(
        f"warning: runs in {folder} cannot be locked ({reason}); do not train a run in two "
        "processes at once",
        file=sys.stderr,
    )


def save_epoch(run: Path, history: list[Row], model: Any = None) -> None:
    """Write history.csv, and model.keras if a model is given, in one atomic step.

    Args:
        run: run directory.
        history: all epochs so far.
        model: Keras model; None keeps the saved one.
    """
    with atomic_io.atomic_writes(run) as folder:
        if model:
            model_file.save(model, folder / MODEL)
        with open(folder / HISTORY_FILE, "w", newline="") as stream:
            writer = csv.DictWriter(stream, HISTORY)
            writer.writeheader()
            writer.writerows({key: f"{value:.9g}" for key, value in row.items()} for row in history)


def finish(run: Path) -> None:
    """Mark a run as finished: remove its checkpoint folder.

    The folder is renamed first, because a rename is atomic and the removal of its files is not.
    """
    renamed = run / atomic_io.temporary_name(CHECKPOINT)
    os.replace(run / CHECKPOINT, renamed)
    shutil.rmtree(renamed)


def is_finished(run: Path) -> bool:
    """Return whether a run is finished: it has weights and no checkpoint folder."""
    return (run / MODEL).is_file() and not (run / CHECKPOINT).exists()


def is_resumable(run: Path) -> bool:
    """Return whether a run can be resumed.

    Such a run is unfinished, has not diverged, and is not being trained.
    """
    if is_finished(run):
        return False
    try:
        with lock(run):
            pass
    except (RunError, FileNotFoundError):  # the run is being trained, or has just been finished
        return False
    except OSError:
        return True
    try:
        return not diverged(load_history(run))
    except RunError:  # no epoch yet, or a corrupt file, which causes an error on resume
        return True


def diverged(history: list[Row]) -> bool:
    """Return whether the loss of the last epoch is NaN or infinite."""
    return bool(history) and not math.isfinite(history[-1]["loss"] + history[-1]["val_loss"])


def newest(runs_dir: str | Path, finished: bool = True) -> Path:
    """Return the run in a folder that was created last.

    Args:
        runs_dir: parent folder of the runs.
        finished: consider finished runs if True, resumable runs if False.

    Raises:
        RunError: the folder contains no such run.
    """
    created = {}
    for path in Path(runs_dir).glob(f"*/{CONFIG}"):
        if is_finished(path.parent) if finished else is_resumable(path.parent):
            with contextlib.suppress(RunError, KeyError, ValueError, TypeError):
                moment = datetime.datetime.fromisoformat(load_config(path.parent)["created"])
                created[path.parent] = moment.timestamp()
    if not created:
        raise RunError(
            f"no {'finished' if finished else 'resumable'} run in {runs_dir}; train one: "
            "python train_cnn.py"
        )
    return max(created, key=created.get)


def load_config(run: Path) -> dict[str, Any]:
    """Return the content of config.json, with the current names of settings. Raises RunError."""
    path = run / CONFIG
    if not run.is_dir():
        raise RunError(f"{run} is not a run directory; train one with: python train_cnn.py")
    if not os.path.lexists(path):
        raise RunError(f"{run} is not a run directory: it has no {CONFIG}")
    check_file(path)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise corrupt(path, first_line(error)) from None
    if not isinstance(config, dict):
        raise corrupt(path, "not a JSON object")
    if config.get("format", FORMAT) != FORMAT:
        raise other_version(path, f"its format is not {FORMAT}")
    return with_current_names(config)


def load_train_config(run: Path) -> TrainConfig:
    """Return the settings of a run after checking all of them. Raises RunError."""
    record = load_config(run)
    try:
        config = TrainConfig.from_record(record)
        if unknown := record.keys() - config.to_record().keys() - {*OTHER_KEYS}:
            raise ConfigError(f"the setting {min(unknown)} is unknown")
        if "fingerprint" not in record:
            raise ConfigError("the fingerprint is missing")
        return config
    except ConfigError as error:
        raise other_version(run / CONFIG, str(error)) from None


def load_evaluation_config(run: Path) -> dict[str, Any]:
    """Return the content of config.json after checking what an evaluation needs.

    Raises:
        RunError: a setting of EVALUATION_SETTINGS is missing, of the wrong type or out of range.
    """
    config = load_config(run)
    settings = ADDED_LATER | config
    wrong = [
        name
        for name, kind in EVALUATION_SETTINGS.items()
        if name not in settings or not isinstance(settings[name], kind)
    ]
    if not wrong:
        limits = {"seed": 2**31, "label_smoothing": 1}
        wrong = [name for name, limit in limits.items() if not 0 <= config[name] < limit]
    if wrong:
        raise corrupt(run / CONFIG, f"missing or invalid: {', '.join(wrong)}")
    return config


def check_fingerprint(run: Path, dataset: Any) -> None:
    """Raise RunError if a run was not trained on the data of a data.Dataset."""
    if load_config(run).get("fingerprint") != dataset.fingerprint:
        raise RunError(
            f"{run} was trained on other data than {dataset.source}; train it again, or name the "
            "original data with --data-dir"
        )


def load_history(run: Path) -> list[Row]:
    """Return the epochs in history.csv. Raises RunError."""
    path = run / HISTORY_FILE
    check_file(path)
    try:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            raise ValueError("truncated")
        history = checked_history(csv.DictReader(text.splitlines()))
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from None
    except KeyError as error:
        raise corrupt(path, f"no column {error}") from None
    except (ValueError, TypeError, OverflowError, csv.Error) as error:
        raise corrupt(path, first_line(error)) from None
    if not history:
        raise corrupt(path, "no epochs")
    return history


def checked_history(rows: Iterable[Any]) -> list[Row]:
    """Return the rows of a history as numbers after checking their ranges.

    Raises:
        ValueError, KeyError, TypeError, OverflowError: a value is missing or invalid.
    """
    history = [
        {key: float(row[key]) for key in HISTORY} | {"epoch": int(row["epoch"])} for row in rows
    ]
    for number, row in enumerate(history, 1):
        if row["epoch"] != number:
            raise ValueError(f"row {number} is not epoch {number}")
        if any(row[key] < 0 or LARGEST_LOSS < row[key] < math.inf for key in ("loss", "val_loss")):
            raise ValueError(f"a loss of epoch {number} is out of range")
        if not all(0 <= row[key] <= 1 for key in ("accuracy", "val_accuracy")):
            raise ValueError(f"an accuracy of epoch {number} is not between 0 and 1")
        if not all(0 <= row[key] < math.inf for key in ("learning_rate", "seconds")):
            raise ValueError(f"learning_rate or seconds of epoch {number} is out of range")
    return history


def load_model(run: Path) -> Any:
    """Return the Keras model of a run, which maps images to class probabilities.

    Raises:
        RunError: model.keras is missing or corrupt, or was saved with a newer version of Keras, or
            is a model for other data.
    """
    image = (*source.FILES["t10k-images-idx3-ubyte"].shape[1:], 1)
    return open_model(run, image, (len(source.CLASS_NAMES),), "Fashion-MNIST")


def open_model(
    run: Path, input_shape: tuple[int, ...], output_shape: tuple[int, ...], task: str
) -> Any:
    """Return the Keras model in a folder.

    Args:
        run: folder with model.keras.
        input_shape: expected shape of the input, without the batch.
        output_shape: expected shape of the output, without the batch.
        task: what the model is for, named in an error message.

    Raises:
        RunError: see load_model().
    """
    import keras

    path = run / MODEL
    check_file(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            model = keras.models.load_model(path, safe_mode=True)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # a corrupt archive raises many kinds
        raise unreadable_model(run, error) from None
    if not isinstance(model, keras.Model):
        raise corrupt(path, "not a Keras model")
    if not all(math.isfinite(abs(weight).max(initial=0)) for weight in model.get_weights()):
        raise corrupt(path, "NaN or infinite weights")
    expected = (None, *input_shape), (None, *output_shape)
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if shapes != expected:
        raise RunError(
            f"{path} is not a model for {task}: its input and output shapes are {shapes[0]} "
            f"and {shapes[1]}, not {expected[0]} and {expected[1]}"
        )
    return model


def load_model_and_history(run: Path) -> tuple[Any, list[Row]]:
    """Return the model and the history of a run as saved after the same epoch.

    If the run saves an epoch meanwhile, both are loaded again. Raises RunError.
    """
    path, was_finished, config = run / HISTORY_FILE, is_finished(run), load_evaluation_config(run)
    check_file(path)
    before = path.read_bytes()
    while True:
        model = load_model(run)
        check_file(path)
        if (now := path.read_bytes()) == before:
            history = load_history(run)
            if was_finished and not is_done(history, config["epochs"], config["patience"]):
                raise corrupt(path, f"no epoch after {len(history)}: truncated")
            return model, history
        before = now


def is_done(history: list[Row], epochs: int, patience: int) -> bool:
    """Return whether training has ended: early stopping, divergence or the last epoch.

    Args:
        history: all epochs so far.
        epochs: largest number of epochs.
        patience: of early stopping; 0 without it.
    """
    best = chosen_epoch(patience, history)
    stopped = patience and best and len(history) - best["epoch"] >= patience
    return bool(stopped) or diverged(history) or len(history) >= epochs


def chosen_epoch(patience: int, history: list[Row]) -> Row | None:
    """Return the row of the epoch whose weights are in model.keras.

    With early stopping (patience above 0), this is the first epoch with the lowest validation loss,
    otherwise the last epoch. Epochs with a NaN or infinite validation loss are ignored; None if
    there is no other epoch.
    """
    finite = [row for row in history if math.isfinite(row["val_loss"])]
    if patience:
        return min(finite, key=lambda row: row["val_loss"], default=None)
    return finite[-1] if finite else None


def discard(run: Path) -> None:
    """Remove a run directory if it contains no weights."""
    if not (run / MODEL).exists():
        shutil.rmtree(run)


def check_file(path: Path) -> None:
    """Raise RunError if a path is not a regular file.

    Opening a named pipe, for example, would block forever.
    """
    if not path.is_file():
        problem = "not a file" if os.path.lexists(path) else "missing"
        raise RunError(f"{path} is {problem}. {advice(path)}")


def corrupt(path: Path, reason: str) -> RunError:
    """Return the error for a corrupt file that only another training can replace."""
    return RunError(f"{path} is corrupt ({reason}). {advice(path)}")


def advice(path: Path) -> str:
    """Return how to replace a missing or corrupt file."""
    if PRETRAINED in path.parents:
        return "It is part of the project: restore it, for example with git checkout"
    return TRAIN_AGAIN


def unreadable_model(run: Path, error: Exception) -> RunError:
    """Return the error for a model.keras that Keras cannot open: it is newer, or corrupt."""
    from packaging.version import InvalidVersion, Version

    path, reason = run / MODEL, first_line(error)
    if not zipfile.is_zipfile(path):
        return corrupt(path, reason)
    saved = {}
    with contextlib.suppress(RunError, KeyError, TypeError, ValueError):
        saved = dict(load_config(run)["versions"])
    saved["keras"] = model_file.keras_version(path) or saved.get("keras")
    installed = _versions()
    for package in ("keras", "tensorflow"):
        with contextlib.suppress(InvalidVersion, TypeError):  # no version, or not text
            if Version(saved.get(package)) > Version(installed[package]):
                return RunError(
                    f"{path} cannot be opened ({reason}): it was saved with {package} "
                    f"{saved[package]}, and {installed[package]} is installed. Install a newer "
                    f'version: python -m pip install "{package}>={saved[package]}"'
                )
    if saved["keras"] != installed["keras"]:
        reason += f"; saved with Keras {saved['keras']}, opened with {installed['keras']}"
    return corrupt(path, reason)


def other_version(path: Path, reason: str) -> RunError:
    """Return the error for a config.json that this version of the project does not support."""
    return RunError(
        f"{path} is from another version of this project, or corrupt ({reason}). {TRAIN_AGAIN}"
    )


def how_to_train_further(run: Path) -> str:
    """Return a sentence with the command that trains the weights of a finished run further."""
    command = ["python", "train_cnn.py", "--init-from", str(run), *flags_of_start(load_config(run))]
    return f"To start a new run from its weights: {shlex.join(command)}"


def find_run(run: str | None, runs_dir: str) -> Path:
    """Return the given run, else the newest finished run, else the pretrained one.

    Raises:
        RunError: there is none.
    """
    if run:
        return Path(run)
    with contextlib.suppress(RunError):
        return newest(runs_dir)
    if not BEST.is_dir():
        raise RunError(
            f"no finished run in {runs_dir} and no {BEST}; train one with: python train_cnn.py"
        )
    return BEST


def _versions() -> dict[str, str | None]:
    """Return the version of every package; None for a package that is not installed."""
    versions = dict.fromkeys(PACKAGES)
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def commit() -> str | None:
    """Return the git commit of this project, with "+" if files were changed.

    Without git, and in a copy of the project inside another repository, return None.
    """
    if _git("rev-parse", "--show-cdup") != "\n":  # the path to the top of the work tree
        return None
    return _git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+").strip() or None


def _git(*arguments: str) -> str:
    """Return the output of a git command in the folder of this project; empty on an error."""
    # A git hook, for example, sets variables that name another repository.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent.parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def first_line(error: object) -> str:
    """Return the first line of an error message."""
    return str(error).strip().split("\n")[0]


def _rename_folder(path: Path, target: Path) -> bool:
    """Rename a folder; return False if another process created the target in the meantime."""
    try:
        path.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    return True
