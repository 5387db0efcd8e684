"""A hyperparameter search with Optuna: the study, its trials, and how both are resumed."""

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
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from fmnist import atomic_io, cli, runs
from fmnist.config import TrainConfig
from fmnist.recipes import ADAM
from fmnist.training.loop import Diverged
from tools.tuning import report
from tools.tuning.space import LOGARITHMIC, settings_of, space_of
from train_cnn import train_or_resume

# In a database: interval between the heartbeats of a running trial, and the time without a
# heartbeat after which a trial counts as abandoned.
HEARTBEAT_SECONDS, GRACE_SECONDS = 30, 120
ATTEMPTS = 3  # to open a study that another process may be creating
RETRIES = 5  # of an interrupted trial
RUNNING, COMPLETE, PRUNED, FAIL = (
    optuna.trial.TrialState[name] for name in ("RUNNING", "COMPLETE", "PRUNED", "FAIL")
)


class TuneError(cli.UserError):
    """The study cannot be opened or continued."""


def tune(
    name: str,
    trials: int,
    fixed: dict[str, Any],
    data_dir: str | None,
    output_dir: str,
    storage: str | None = None,
) -> TrainConfig:
    """Run trials until the study is complete, write the report and return the best config.

    Args:
        name: name of the study.
        trials: number of trials of the study, including those of earlier calls.
        fixed: settings of TrainConfig that all trials share, among them model and epochs.
        data_dir: folder with the four data files; None to find or download them.
        output_dir: folder in which the study's folder is created.
        storage: URL of a database; None for a file in the study's folder.

    Raises:
        UserError: a TuneError, DataError, RunError or TrainingError.
    """
    folder = Path(output_dir) / name
    space = space_of(fixed["model"])
    definition = {"fixed": {"val_size": None, "limit": None} | fixed, "space": space}
    study = open_study(folder, storage, name, definition, fixed["epochs"])
    finished = (COMPLETE, PRUNED)

    def print_trial(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        outcome = f"{trial.value:.2%}" if trial.state == COMPLETE else trial.state.name.lower()
        print(
            f"[{len(study.get_trials(deepcopy=False, states=finished))}/{trials}] "
            f"trial {trial.number}: {outcome}; best: {best_so_far(study)}",
            flush=True,
        )
        requeue_abandoned(study)

    with storage_errors():
        requeue_abandoned(study)
        if len(study.get_trials(deepcopy=False, states=finished)) < trials:
            study.optimize(
                lambda trial: validation_accuracy(trial, folder, fixed, space, data_dir),
                callbacks=[print_trial, optuna.study.MaxTrialsCallback(trials, states=finished)],
            )
    if not study.get_trials(deepcopy=False, states=(COMPLETE,)):
        raise TuneError(f"study {name} has no complete trial; see {folder / 'logs'}")
    best = TrainConfig(**ADAM | fixed | settings_of(study.best_trial.params, space))
    report.write(folder, study, best)
    return best


def open_study(
    folder: Path, storage: str | None, name: str, definition: dict[str, Any], epochs: int
) -> optuna.Study:
    """Create a study or open an existing one.

    Args:
        folder: folder of the study.
        storage: URL of a database; None for a file in the folder.
        name: name of the study.
        definition: shared settings and search space, which an existing study must have, too.
        epochs: number of epochs of a trial.

    Raises:
        TuneError: if the study cannot be opened, or has another definition.
    """
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            study = optuna.create_study(
                storage=storage_of(folder, storage),
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                # Without a seed, because several processes must not sample the same values.
                sampler=optuna.samplers.TPESampler(multivariate=True),
                # Prunes only the worst quarter: a schedule with a low final learning rate can be
                # less accurate halfway and better at the end.
                pruner=optuna.pruners.PercentilePruner(
                    75.0, n_startup_trials=8, n_warmup_steps=epochs // 3
                ),
            )
            break
        except Exception as error:  # databases, drivers and a corrupt journal raise many types
            if "already exists" not in str(error) or not attempts_left:
                raise TuneError(
                    f"study {name} cannot be opened ({cli.one_line(error)[:300]}); check "
                    "--storage, or choose another --study"
                ) from None
            time.sleep(1)  # another process is creating the tables
    definition = json.loads(json.dumps(definition))  # with the types that the storage returns
    if study.user_attrs.get("made_of", definition) != definition:
        raise TuneError(
            f"study {name} has other settings or another search space; choose another --study"
        )
    study.set_user_attr("made_of", definition)
    return study


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Convert errors of the storage to TuneError.

    They occur if the connection is lost, or if the storage assigned the trial to another process.
    """
    try:
        yield
    except (optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise TuneError(
            f"lost access to the study ({cli.one_line(error)[:300]}); run the same command again "
            "to resume"
        ) from None


def storage_of(folder: Path, url: str | None) -> optuna.storages.BaseStorage:
    """Return the storage of a study: the database at `url`, or a journal in the folder."""
    if url:
        return optuna.storages.RDBStorage(
            url,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
            heartbeat_stale_trial_callback=requeue,
        )
    remove_incomplete_line(folder / "journal.log")
    journal = str(folder / "journal.log")
    # Optuna's other lock is a symbolic link, which some file systems do not support.
    backend = JournalFileBackend(journal, lock_obj=JournalFileOpenLock(journal))
    return optuna.storages.JournalStorage(backend)


def remove_incomplete_line(journal: Path) -> None:
    """Remove an incomplete last line, which a killed process left.

    Optuna would append to it, and could not read the journal from there on.
    """
    if not journal.exists():
        return
    lock = JournalFileOpenLock(str(journal))
    lock.acquire()
    try:
        with open(journal, "r+b") as stream:
            if b"\n" in (content := stream.read()):
                stream.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def requeue_abandoned(study: optuna.Study) -> None:
    """Put abandoned trials back into the queue: those of processes of this machine that ended.

    A database does the same for other machines when their heartbeats stop.
    """
    for trial in study.get_trials(states=(RUNNING,)):
        host, _, process = trial.user_attrs.get("process", "").rpartition(":")
        # This process runs no trial now, so its own ID means an earlier process with the same ID.
        if host == socket.gethostname() and (
            int(process) == os.getpid() or not atomic_io.is_alive(int(process))
        ):
            # Another process may requeue the trial first.
            with contextlib.suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
                study.tell(trial.number, state=FAIL)
                requeue(study, trial)


def requeue(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Put an interrupted trial back into the queue and remove its process ID."""
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
    """Train with the hyperparameters that a trial suggests and return the validation accuracy.

    Args:
        trial: trial of the study.
        folder: folder of the study, which contains the run directory of every trial.
        fixed: see tune().
        space: hyperparameters with their values or the bounds of their range.
        data_dir: see tune().

    Raises:
        optuna.TrialPruned: if the pruner stops the trial, or its training diverges.
    """
    trial.set_user_attr("process", f"{socket.gethostname()}:{os.getpid()}")
    for name, values in space.items():
        if isinstance(values, list):
            trial.suggest_categorical(name, values)
        else:
            trial.suggest_float(name, *values, log=name in LOGARITHMIC)
    name = trial.user_attrs.get("run", f"trial-{trial.number:04d}")
    trial.set_user_attr("run", name)
    settings = ADAM | fixed | settings_of(trial.params, space)
    config = TrainConfig(**settings, data_dir=data_dir, runs_dir=folder, name=name)

    def report_epoch(epoch: int, logs: dict[str, float]) -> None:
        trial.report(logs["val_accuracy"], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    keras.backend.clear_session()  # frees the networks of earlier trials
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
            if current.state == RUNNING:  # the trial is not assigned to another process
                requeue(trial.study, current)
            raise
    return runs.chosen_epoch(config.patience, runs.load_history(run))["val_accuracy"]


def best_so_far(study: optuna.Study) -> str:
    """Return the highest accuracy and its trial as text."""
    complete = study.get_trials(deepcopy=False, states=(COMPLETE,))
    best = max(complete, key=lambda trial: trial.value, default=None)
    return f"{best.value:.2%} (trial {best.number})" if best else "none yet"
