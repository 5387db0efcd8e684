"""A search with Optuna: its study, its trials, and how both resume."""

import contextlib
import json
import os
import shutil
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import optuna
import sqlalchemy
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from fmnist import atomic_io, cli, runs
from fmnist.config import TrainConfig
from fmnist.training.loop import Diverged
from tools.tuning import report
from tools.tuning.space import LOGARITHMIC, settings_of, space_of
from train_cnn import train_or_resume

# Of trials in a database, and after how long they count as abandoned.
HEARTBEAT_SECONDS, SILENT_SECONDS = 30, 120
TRIES = 3  # to open a new study that others open at the same time
RETRIES = 5  # of a trial that was interrupted
RUNNING, COMPLETE, PRUNED, FAIL = (
    optuna.trial.TrialState[name] for name in ("RUNNING", "COMPLETE", "PRUNED", "FAIL")
)


class TuneError(cli.UserError):
    """The study cannot be made or go on."""


def tune(
    name: str,
    trials: int,
    fixed: dict[str, Any],
    data_dir: str | None,
    output_dir: str,
    storage: str | None = None,
) -> TrainConfig:
    """Run trials until the study has enough, write the report and return the winner.

    Args:
        name: of the study.
        trials: number of trials of the whole study.
        fixed: settings of every trial, those of TrainConfig, its model and its epochs among them.
        data_dir: folder with the four files; None to find or fetch them.
        output_dir: where the study's folder is made.
        storage: URL of a database; None for a file in the study's folder.

    Raises:
        UserError: TuneError, DataError, RunError or TrainingError.
    """
    # Absolute, as Optuna's lock of the journal is a link that is not relative to its own folder.
    folder = Path(output_dir).resolve() / name
    space = space_of(fixed["model"])
    made_of = {"fixed": {"val_size": None, "limit": None} | fixed, "space": space}
    study = open_study(folder, storage, name, made_of, fixed["epochs"])
    over = (COMPLETE, PRUNED)

    def print_trial(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        outcome = f"{trial.value:.2%}" if trial.state == COMPLETE else trial.state.name.lower()
        print(
            f"[{len(study.get_trials(deepcopy=False, states=over))}/{trials}] "
            f"trial {trial.number}: {outcome}; best {best_so_far(study)}",
            flush=True,
        )
        requeue_abandoned(study)

    with storage_errors():
        requeue_abandoned(study)
        if len(study.get_trials(deepcopy=False, states=over)) < trials:
            study.optimize(
                lambda trial: validation_accuracy(trial, folder, fixed, space, data_dir),
                callbacks=[print_trial, optuna.study.MaxTrialsCallback(trials, states=over)],
            )
    if not study.get_trials(deepcopy=False, states=(COMPLETE,)):
        raise TuneError(f"no trial of {name} was finished; see {folder / 'logs'}")
    winner = TrainConfig(**fixed | settings_of(study.best_trial.params, space))
    report.write(folder, study, winner)
    return winner


def open_study(
    folder: Path, storage: str | None, name: str, made_of: dict[str, Any], epochs: int
) -> optuna.Study:
    """Return the study, a new one or one of the same search. Raises TuneError."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    for tries_left in reversed(range(TRIES)):
        try:
            study = optuna.create_study(
                storage=storage_of(folder, storage),
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                # Unseeded, or processes would draw the same.
                sampler=optuna.samplers.TPESampler(multivariate=True),
                # Lenient, as a schedule that ends low may be behind in its middle.
                pruner=optuna.pruners.PercentilePruner(
                    75.0, n_startup_trials=8, n_warmup_steps=epochs // 3
                ),
            )
            break
        except Exception as error:  # whatever the database, its driver or a damaged journal raises
            if "already exists" not in str(error) or not tries_left:
                raise TuneError(
                    f"the study cannot be opened ({cli.one_line(error)[:300]})"
                ) from None
            time.sleep(1)  # another process makes the tables at this moment
    made_of = json.loads(json.dumps(made_of))  # as it comes back from the storage
    if study.user_attrs.get("made_of", made_of) != made_of:
        raise TuneError(
            f"the study {name} is of another search space or of other options; choose another "
            "--study"
        )
    study.set_user_attr("made_of", made_of)
    return study


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Make a TuneError of what a lost storage raises, or one that gave a trial away."""
    try:
        yield
    except (optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise TuneError(
            f"the study is lost ({cli.one_line(error)[:300]}); the same command goes on"
        ) from None


def storage_of(folder: Path, url: str | None) -> optuna.storages.BaseStorage:
    """Return the storage of a study: a database, or a journal in its folder."""
    if url:
        return optuna.storages.RDBStorage(
            url,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=SILENT_SECONDS,
            heartbeat_stale_trial_callback=requeue,
        )
    cut_incomplete_line(folder / "journal.log")
    return optuna.storages.JournalStorage(JournalFileBackend(str(folder / "journal.log")))


def cut_incomplete_line(journal: Path) -> None:
    """Cut off an incomplete last line, as nothing after it could be read."""
    if not journal.exists():
        return
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        with open(journal, "r+b") as stream:
            if b"\n" in (content := stream.read()):
                stream.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def requeue_abandoned(study: optuna.Study) -> None:
    """Put the trials of processes of this machine that no longer run back into the queue.

    Those of other machines a database gives back by their heartbeat.
    """
    for trial in study.get_trials(states=(RUNNING,)):
        host, _, process = trial.user_attrs.get("process", "").rpartition(":")
        # A trial of this very process is of one that had its number before.
        if host == socket.gethostname() and (
            int(process) == os.getpid() or not atomic_io.is_alive(int(process))
        ):
            # Another process may be faster, and then this one has nothing to do.
            with contextlib.suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
                study.tell(trial.number, state=FAIL)
                requeue(study, trial)


def requeue(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Put a trial that was interrupted back into the queue, without its process."""
    trial.user_attrs.pop("process", None)
    optuna.storages.RetryHeartbeatStaleTrialCallback(RETRIES, inherit_intermediate_values=True)(
        study, trial
    )


def validation_accuracy(
    trial: optuna.Trial,
    folder: Path,
    fixed: dict[str, Any],
    space: dict[str, Any],
    data_dir: str | None,
) -> float:
    """Return the validation accuracy of what the trial suggests. Raises optuna.TrialPruned."""
    trial.set_user_attr("process", f"{socket.gethostname()}:{os.getpid()}")
    for name, values in space.items():
        if isinstance(values, list):
            trial.suggest_categorical(name, values)
        else:
            trial.suggest_float(name, *values, log=name in LOGARITHMIC)
    name = trial.user_attrs.get("run", f"trial-{trial.number:04d}")
    trial.set_user_attr("run", name)
    settings = fixed | settings_of(trial.params, space)
    config = TrainConfig(**settings, data_dir=data_dir, runs_dir=folder, name=name)

    def report_epoch(epoch: int, logs: dict[str, float]) -> None:
        trial.report(logs["val_accuracy"], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    keras.backend.clear_session()  # of the trials before
    with cli.output_to(folder / "logs" / f"{name}.log"):
        try:
            run = train_or_resume(
                config, [keras.callbacks.LambdaCallback(on_epoch_end=report_epoch)]
            )
        except (optuna.TrialPruned, Diverged) as error:
            print(error)
            shutil.rmtree(folder / name, ignore_errors=True)
            raise optuna.TrialPruned from None
        except (Exception, KeyboardInterrupt):
            current = trial.study.get_trials()[trial.number]
            if current.state == RUNNING:  # and not given to another process
                requeue(trial.study, current)
            raise
    return runs.chosen_epoch(config.patience, runs.load_history(run))["val_accuracy"]


def best_so_far(study: optuna.Study) -> str:
    """Return the best accuracy and its trial, as a text."""
    complete = study.get_trials(deepcopy=False, states=(COMPLETE,))
    best = max(complete, key=lambda trial: trial.value, default=None)
    return f"{best.value:.2%}, by trial {best.number}" if best else "none yet"
