"""The run directory: the only thing that training hands on.

    runs/20261121-140312-dropout_cnn/
        config.json     every setting of the run, and what it ran on
        model.keras     the best weights, with the architecture
        history.csv     one row an epoch, with the columns HISTORY
        checkpoint/     what it takes to resume; there as long as the run is not finished
        metrics.json, predictions.npz, novelty.npz, figures/, report.html     by evaluate_model.py

Every write is atomic, and no run is ever overwritten.
"""

import contextlib
import csv
import datetime
import errno
import json
import math
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from fmnist import atomic_io, cli, source
from fmnist.config import ConfigError, TrainConfig, with_current_names

FORMAT = 1  # of the run directory; goes up when an older version of this project would misread it
CONFIG, MODEL, HISTORY_FILE, CHECKPOINT = "config.json", "model.keras", "history.csv", "checkpoint"
METRICS, PREDICTIONS, NOVELTY = "metrics.json", "predictions.npz", "novelty.npz"
# In metrics.json: of what views of an image its probabilities are the mean.
VIEWS = ("test_time_flips", "test_time_shifts")
HISTORY = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
ABOUT = ("format", "fingerprint", "created", "versions", "commit")  # beside the settings
LARGEST_LOSS = 3.5e38  # of float32, and a little for rounding
PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "matplotlib")
PRETRAINED = Path(__file__).parent.parent / "pretrained" / "best"  # comes with the project
# The types of the settings that evaluating a run needs; a run of an earlier version may have no
# others.
EVALUATION_SETTINGS = {
    "model": str,
    "patience": int,
    "seed": int,
    "val_size": int,
    "limit": int | None,
    "data_dir": str | None,
    "fingerprint": str,
}
Row = dict[str, float]  # of a history


class RunError(cli.UserError):
    """A run is missing, unfinished, corrupt or in the way."""


def create(runs_dir: str | Path, name: str | None, config: dict[str, Any]) -> Path:
    """Make a run directory with its config.json and return its path. Raises RunError.

    name: None for one made of the time and the model.
    """
    now = datetime.datetime.now().astimezone()
    record = {
        "format": FORMAT,
        **config,
        "created": now.isoformat(),
        "versions": _versions(),
        "commit": _commit(),
    }
    stem = name or f"{now:%Y%m%d-%H%M%S}-{config['model']}"
    candidates = [stem] if name else [stem, *(f"{stem}-{number}" for number in range(2, 100))]
    try:
        with atomic_io.temporary_folder(Path(runs_dir)) as unfinished:
            (unfinished / "run" / CHECKPOINT).mkdir(parents=True)
            atomic_io.write_json(unfinished / "run" / CONFIG, record)
            for candidate in candidates:
                run = Path(runs_dir) / candidate
                if not os.path.lexists(run) and _rename_folder(unfinished / "run", run):
                    return run
    except OSError as error:
        raise RunError(
            f"{Path(runs_dir) / stem} cannot be made ({error.strerror}); choose another --runs-dir"
        ) from None
    raise RunError(f"{Path(runs_dir) / stem} is there already; choose another --name or --runs-dir")


@contextlib.contextmanager
def lock(run: Path) -> Iterator[None]:
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
        atomic_io.remove_stale_temp_files(run / CHECKPOINT)
        yield
    finally:
        os.close(folder)


def save_epoch(run: Path, history: list[Row], model: Any = None) -> None:
    """Write the history, and the model where there is a new one.

    history: a dict an epoch, with the keys HISTORY.
    """
    with atomic_io.atomic_writes(run) as folder:
        if model:
            model.save(folder / MODEL)
        with open(folder / HISTORY_FILE, "w", newline="") as stream:
            writer = csv.DictWriter(stream, HISTORY)
            writer.writeheader()
            writer.writerows({key: f"{value:.9g}" for key, value in row.items()} for row in history)


def finish(run: Path) -> None:
    """Take away what only an unfinished run needs, by a single rename first."""
    done = run / atomic_io.temporary_name(CHECKPOINT)
    os.replace(run / CHECKPOINT, done)
    shutil.rmtree(done)


def is_finished(run: Path) -> bool:
    """Return whether a run has its final weights and nothing to resume."""
    return (run / MODEL).is_file() and not (run / CHECKPOINT).exists()


def is_resumable(run: Path) -> bool:
    """Return whether a run can be resumed: no process trains it, and it has not diverged."""
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


def diverged(history: list[Row]) -> bool:
    """Return whether the loss has become NaN or infinite."""
    return bool(history) and not math.isfinite(history[-1]["loss"] + history[-1]["val_loss"])


def newest(runs_dir: str | Path, finished: bool = True) -> Path:
    """Return the run that was created last. Raises RunError.

    finished: whether to look for finished runs, or for those to resume.
    """
    created = {}
    for path in Path(runs_dir).glob(f"*/{CONFIG}"):
        if is_finished(path.parent) if finished else is_resumable(path.parent):
            with contextlib.suppress(RunError, KeyError, ValueError, TypeError):
                moment = datetime.datetime.fromisoformat(load_config(path.parent)["created"])
                created[path.parent] = moment.timestamp()
    if not created:
        raise RunError(
            f"no {'' if finished else 'un'}finished run in {runs_dir}; train one with: "
            "python train_cnn.py"
        )
    return max(created, key=created.get)


def load_config(run: Path) -> dict[str, Any]:
    """Return the content of config.json, with current names of settings. Raises RunError."""
    path = run / CONFIG
    if not run.is_dir():
        raise RunError(f"{run} is not a run directory; train one with: python train_cnn.py")
    if not os.path.lexists(path):
        raise RunError(f"{run} is not a run directory: it has no {CONFIG}")
    check_file(path)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read ({first_line(error)})") from None
    if not isinstance(config, dict):
        raise RunError(f"{path} is broken: it holds no settings")
    if config.get("format", FORMAT) != FORMAT:
        raise RunError(
            f"{path} is from another version of this project, or broken: its format is not {FORMAT}"
        )
    return with_current_names(config)


def load_train_config(run: Path) -> TrainConfig:
    """Return the settings that a run was made with, all of them checked. Raises RunError."""
    record = load_config(run)
    try:
        config = TrainConfig.from_record(record)
        if unknown := record.keys() - config.to_record().keys() - {*ABOUT}:
            raise ConfigError(f"it has {min(unknown)}")
        if "fingerprint" not in record:
            raise ConfigError("it has no fingerprint")
        return config
    except ConfigError as error:
        raise RunError(
            f"{run / CONFIG} is from another version of this project, or broken: {error}"
        ) from None


def load_evaluation_config(run: Path) -> dict[str, Any]:
    """Return the config of a run, with the types of EVALUATION_SETTINGS. Raises RunError."""
    config = load_config(run)
    wrong = [
        name
        for name, kind in EVALUATION_SETTINGS.items()
        if name not in config or not isinstance(config[name], kind)
    ]
    if not wrong and not 0 <= config["seed"] < 2**31:
        wrong = ["seed"]
    if wrong:
        raise RunError(f"{run / CONFIG} is broken: see {', '.join(wrong)}")
    return config


def check_fingerprint(run: Path, dataset: Any) -> None:
    """Raise RunError where a run was not trained on the data of a data.Dataset."""
    if load_config(run).get("fingerprint") != dataset.fingerprint:
        raise RunError(
            f"{run} was trained on other data than {dataset.source} holds; train it again"
        )


def load_history(run: Path) -> list[Row]:
    """Return a dict an epoch, with numbers under the keys HISTORY. Raises RunError."""
    path = run / HISTORY_FILE
    check_file(path)
    try:
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            raise ValueError("it is cut off")
        history = checked_history(csv.DictReader(text.splitlines()))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise RunError(f"{path} is broken ({first_line(error)})") from None
    if not history:
        raise RunError(f"{path} is broken: it holds no epoch")
    return history


def checked_history(rows: Iterable[Any]) -> list[Row]:
    """Return the rows of a history as numbers, checked.

    Raises ValueError, KeyError, TypeError or OverflowError.
    """
    history = [
        {key: float(row[key]) for key in HISTORY} | {"epoch": int(row["epoch"])} for row in rows
    ]
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


def load_model(run: Path) -> Any:
    """Return the Keras model, which gives class probabilities of images. Raises RunError."""
    import keras

    path = run / MODEL
    check_file(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            model = keras.models.load_model(path, safe_mode=True)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # whatever a damaged archive makes Keras raise
        raise RunError(f"{path} is broken ({first_line(error)}); train the run again") from None
    if not isinstance(model, keras.Model):
        raise RunError(f"{path} is broken: it holds no model")
    if not all(math.isfinite(abs(weight).max(initial=0)) for weight in model.get_weights()):
        raise RunError(f"{path} is broken: it holds weights that are NaN or infinite")
    expected = (
        (None, *source.FILES["t10k-images-idx3-ubyte"].shape[1:], 1),
        (None, len(source.CLASS_NAMES)),
    )
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if shapes != expected:
        raise RunError(
            f"{path} is no model of Fashion-MNIST: it turns {shapes[0]} into {shapes[1]}, "
            f"not {expected[0]} into {expected[1]}"
        )
    return model


def load_model_and_history(run: Path) -> tuple[Any, list[Row]]:
    """Return both, of the same epoch, even while the run is training. Raises RunError."""
    path = run / HISTORY_FILE
    check_file(path)
    before = path.read_bytes()
    while True:
        model = load_model(run)
        check_file(path)
        if (now := path.read_bytes()) == before:
            return model, load_history(run)
        before = now


def chosen_epoch(patience: int, history: list[Row]) -> Row | None:
    """Return the row of the epoch whose weights model.keras holds.

    With early stopping (patience above 0) it is the first with the lowest validation loss, else the
    last one. Epochs whose loss is NaN or infinite do not count; None where no other is left.
    """
    finite = [row for row in history if math.isfinite(row["val_loss"])]
    if patience:
        return min(finite, key=lambda row: row["val_loss"], default=None)
    return finite[-1] if finite else None


def discard(run: Path) -> None:
    """Remove a run that never finished an epoch."""
    if not (run / MODEL).exists():
        shutil.rmtree(run)


def check_file(path: Path) -> None:
    """Raise RunError where this is no file that can be opened, a pipe for one."""
    if not path.is_file():
        raise RunError(f"{path} is {'not a file' if os.path.lexists(path) else 'missing'}")


def find_run(run: str | None, runs_dir: str) -> Path:
    """Return the run that is named, else the newest finished one, else the pretrained one.

    Raises RunError.
    """
    if run:
        return Path(run)
    with contextlib.suppress(RunError):
        return newest(runs_dir)
    if not PRETRAINED.is_dir():
        raise RunError(
            f"no finished run in {runs_dir} and no {PRETRAINED}; train one with: "
            "python train_cnn.py"
        )
    return PRETRAINED


def _versions() -> dict[str, str | None]:
    """Return the version of every package, None for one that is not installed under that name."""
    versions = dict.fromkeys(PACKAGES)
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _commit() -> str | None:
    """Return this project's git commit, with "+" if files were changed; None without git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None


def first_line(error: object) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().split("\n")[0]


def _rename_folder(path: Path, place: Path) -> bool:
    """Return whether it was done; not where another process has taken the place."""
    try:
        path.rename(place)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    return True
