"""Search for the options of train_cnn.py that give the best validation accuracy, with Optuna.

    python -m tools.tune_model                                      thirty trials of dropout_cnn, an hour or two
    python -m tools.tune_model --model allconv_cnn --epochs 9 --trials 50 --study small
    python -m tools.tune_model --storage postgresql+psycopg://user@host/studies

A study that was broken off goes on with the same command, and so does the trial that was in progress. Several processes
that name the same study share its trials: on one machine as it is, on several with a --storage that all of them reach.
Leaves figures/ and report.html in runs/studies/NAME, and ends with the train_cnn.py command that trains the winner.
"""

import contextlib
import json
import os
import shlex
import shutil
import socket
import sys
import time
import warnings
from pathlib import Path

from fmnist import runtime

import data
from fmnist import atomic_io
from fmnist import html_report
from fmnist import runs
import train_cnn

# What is searched, by the option of train_cnn.py: a list, or the ends of a range.
SPACE = {
    "learning_rate": (3e-4, 3e-2),
    "l2": (1e-6, 1e-3),
    "dropout": (0.0, 0.6),
    "label_smoothing": (0.0, 0.15),
    "batch_size": [64, 128, 256],
    "width": [0.5, 1.0, 1.5, 2.0],
    "schedule": ["constant", "cosine", "one-cycle"],
    "augment": ["none", "flip", "flip+shift"],
}
LOGARITHMIC = ("learning_rate", "l2")
DIGITS = 3  # of what is drawn from a range, so that the winner's command can be read
HEARTBEAT_SECONDS, SILENT_SECONDS = 30, 120  # of trials in a database, and after how long they count as abandoned
TRIES = 3    # to open a new study that others open at the same time
RETRIES = 5  # of a trial that was broken off
SHOWN = 10  # trials in the report
CAPTIONS = {
    "history": "Validation accuracy of every trial, and the best so far.",
    "importances": "How much each option matters for being among the best trials (PED-ANOVA).",
    "parallel_coordinates": "Every line is a trial: the darker, the more accurate.",
    "slices": "Validation accuracy against each option.",
}


class TuneError(Exception):
    """The study cannot be made or go on. One line, for the user."""


def tune(config, refuse=None):
    """Run trials until the study has as many as asked, write the report and return the winner's options.

    config: a dict with every option of this script under its name, as `parse_options` returns it.
    refuse: is called with a message on impossible options.
    Raises TuneError, data.DataError, runs.RunError, train_cnn.TrainingError.
    """
    # Absolute, as Optuna's lock of the journal is a link that is not relative to its own folder.
    folder = Path(config["output_dir"]).resolve() / config["study"]
    fixed = {"model": config["model"], "epochs": config["epochs"], "patience": 0,
             **{key: config[key] for key in ("val_size", "limit", "seed")}}
    space = {name: values for name, values in SPACE.items()
             if config["model"] in train_cnn.OWN.get(name, train_cnn.MODEL_NAMES)}
    train_cnn.parse_options(train_cnn.flags(fixed | {"batch_size": max(space["batch_size"])}), refuse)
    study = open_study(folder, config["storage"], config["study"], {"fixed": fixed, "space": space}, config["epochs"])

    import optuna

    states = optuna.trial.TrialState
    over = (states.COMPLETE, states.PRUNED)

    def tell(study, trial):
        said = f"{trial.value:.2%}" if trial.state == states.COMPLETE else trial.state.name.lower()
        print(f"[{len(study.get_trials(deepcopy=False, states=over))}/{config['trials']}] trial {trial.number}: {said}; "
              f"best {best_so_far(study)}", flush=True)
        requeue_abandoned(study)

    with storage_errors():
        requeue_abandoned(study)
        if len(study.get_trials(deepcopy=False, states=over)) < config["trials"]:
            study.optimize(lambda trial: validation_accuracy(trial, folder, fixed, space, config["data_dir"]),
                           callbacks=[tell, optuna.study.MaxTrialsCallback(config["trials"], states=over)])
    if not study.get_trials(deepcopy=False, states=(states.COMPLETE,)):
        raise TuneError(f"no trial of {config['study']} was finished; see {folder / 'logs'}")
    winner = fixed | options_of(study.best_trial, space)
    write(folder, study, winner)
    return winner


def open_study(folder, storage, name, made_of, epochs):
    """Return the study, a new one or one of the same search. Raises TuneError."""
    try:
        import optuna
    except ImportError:
        raise TuneError("Optuna is not installed; try: python -m pip install -r requirements-sweeps.txt") from None
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    for tries_left in reversed(range(TRIES)):
        try:
            study = optuna.create_study(
                storage=storage_of(folder, storage), study_name=name, direction="maximize", load_if_exists=True,
                sampler=optuna.samplers.TPESampler(multivariate=True),  # unseeded, or processes would draw the same
                # Lenient, as a schedule that ends low may be behind in its middle.
                pruner=optuna.pruners.PercentilePruner(75.0, n_startup_trials=8, n_warmup_steps=epochs // 3))
            break
        except Exception as error:  # whatever the database, its driver or a damaged journal raises
            if "already exists" not in str(error) or not tries_left:
                raise TuneError(f"the study cannot be opened ({runtime.one_line(error)[:300]})") from None
            time.sleep(1)  # another process makes the tables at this moment
    made_of = json.loads(json.dumps(made_of))  # as it comes back from the storage
    if study.user_attrs.get("made_of", made_of) != made_of:
        raise TuneError(f"the study {name} is of another search space or of other options; choose another --study")
    study.set_user_attr("made_of", made_of)
    return study


@contextlib.contextmanager
def storage_errors():
    """Make a TuneError of what a storage raises that is lost, or that has given a trial to another process."""
    import optuna
    import sqlalchemy

    try:
        yield
    except (optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise TuneError(f"the study is lost ({runtime.one_line(error)[:300]}); the same command goes on") from None


def storage_of(folder, url):
    import optuna

    if url:
        return optuna.storages.RDBStorage(url, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=SILENT_SECONDS,
                                          heartbeat_stale_trial_callback=requeue)
    mend(folder / "journal.log")
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "journal.log")))


def mend(journal):
    """Cut off the last line where it was not written to its end, as nothing after it could be read."""
    from optuna.storages.journal import JournalFileSymlinkLock

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


def requeue_abandoned(study):
    """Put the trials of processes of this machine that are no more at the head of the queue, to go on.

    Those of other machines a database gives back by their heartbeat.
    """
    import optuna

    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        host, _, process = trial.user_attrs.get("process", "").rpartition(":")
        # A trial of this very process is of one that had its number before.
        if host == socket.gethostname() and (int(process) == os.getpid() or not atomic_io.is_alive(int(process))):
            # Another process may be faster, and then this one has nothing to do.
            with contextlib.suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                requeue(study, trial)


def requeue(study, trial):
    """Put a trial that was broken off into the queue once more, with what it was and no process."""
    import optuna

    trial.user_attrs.pop("process", None)
    optuna.storages.RetryHeartbeatStaleTrialCallback(RETRIES, inherit_intermediate_values=True)(study, trial)


def validation_accuracy(trial, folder, fixed, space, data_dir):
    """Train what the trial suggests, or go on with it, and return its validation accuracy. Raises optuna.TrialPruned."""
    import optuna

    trial.set_user_attr("process", f"{socket.gethostname()}:{os.getpid()}")
    for name, values in space.items():
        if isinstance(values, list):
            trial.suggest_categorical(name, values)
        else:
            trial.suggest_float(name, *values, log=name in LOGARITHMIC)
    name = trial.user_attrs.get("run", f"trial-{trial.number:04d}")
    trial.set_user_attr("run", name)
    config = train_cnn.parse_options(train_cnn.flags(
        fixed | options_of(trial, space) | {"data_dir": data_dir, "runs_dir": folder, "name": name}))
    with runtime.output_to(folder / "logs" / f"{name}.log"):
        try:
            run = train_or_go_on(folder / name, config, trial)
        except (optuna.TrialPruned, train_cnn.Diverged) as error:
            print(error)
            shutil.rmtree(folder / name, ignore_errors=True)
            raise optuna.TrialPruned from None
        except (Exception, KeyboardInterrupt):
            this = trial.study.get_trials()[trial.number]
            if this.state == optuna.trial.TrialState.RUNNING:  # and not given to another process
                requeue(trial.study, this)
            raise
    return runs.chosen_epoch(config, runs.load_history(run))["val_accuracy"]


def options_of(trial, space):
    """Return the options that a trial stands for."""
    return {name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
            for name, value in trial.params.items() if name in space}


def train_or_go_on(run, config, trial):
    runtime.start(at_once=2)  # as train() does, before Keras is imported
    import keras
    import optuna

    def report_epoch(epoch, logs):
        trial.report(logs["val_accuracy"], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    keras.backend.clear_session()  # of the trials before
    if run.exists() and not train_cnn.same_settings(runs.load_config(run), config):
        raise TuneError(f"{run} is of another study; choose another --study, or remove it")
    if run.exists() and runs.is_finished(run):
        return run
    unfinished = run if run.exists() else None
    if unfinished:
        config = train_cnn.options_of(run, config.keys()) | {"data_dir": config["data_dir"]}
    return train_cnn.train(config, unfinished, [keras.callbacks.LambdaCallback(on_epoch_end=report_epoch)])


def best_so_far(study):
    import optuna

    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    best = max(complete, key=lambda trial: trial.value, default=None)
    return f"{best.value:.2%}, by trial {best.number}" if best else "none yet"


def write(folder, study, winner):
    """Write figures and report."""
    import matplotlib

    matplotlib.use("Agg")
    import optuna

    states = optuna.trial.TrialState
    complete = sorted(study.get_trials(states=(states.COMPLETE,)), key=lambda trial: -trial.value)
    drawn = optuna.visualization.matplotlib
    drawings = {"history": (drawn.plot_optimization_history, (9, 4.5)), "slices": (drawn.plot_slice, (17, 4)),
                "parallel_coordinates": (drawn.plot_parallel_coordinate, (15, 6)),
                "importances": (drawn.plot_param_importances, (8, 4))}
    names = list(complete[0].params)
    with atomic_io.whole_files(folder) as unfinished:
        (unfinished / "figures").mkdir()
        for name, (draw, inches) in drawings.items():
            if len(complete) > 1:
                with warnings.catch_warnings(action="ignore"):  # that few trials have few values
                    axes = draw(study, target_name="Validation accuracy")
                axes = list(getattr(axes, "flat", [axes]))
                figure = axes[0].figure
                figure.set_size_inches(*inches)
                if len(axes) > 1:  # side by side, where names would run into each other
                    for each in axes:
                        each.tick_params(axis="x", labelrotation=90)
                figure.savefig(unfinished / "figures" / f"{name}.png", dpi=110, bbox_inches="tight")
        pruned = len(study.get_trials(states=(states.PRUNED,)))
        (unfinished / "report.html").write_text(html_report.page(
            f"The study {study.study_name}",
            html_report.paragraph(f"{len(complete)} trials finished, {pruned} given up early. The most accurate on validation "
                             f"images: {complete[0].value:.2%}, by"),
            html_report.paragraph(command(winner)),
            html_report.table(["trial", "validation, %", *names],
                         ([trial.number, f"{100 * trial.value:.2f}", *(options_of(trial, names)[name] for name in names)]
                          for trial in complete[:SHOWN])),
            *(html_report.picture(unfinished / "figures" / f"{name}.png", CAPTIONS[name]) for name in drawings
              if len(complete) > 1)), encoding="utf-8", errors="xmlcharrefreplace")


def command(options):
    return shlex.join(["python", "train_cnn.py", *train_cnn.flags(options)])


def parse_options(argv=None):
    """Return the options as a dict, and what refuses impossible ones."""
    parser = runtime.Parser(__doc__)
    add, number = parser.add_argument, train_cnn.number
    add("--model", default=train_cnn.MODEL_NAMES[0], choices=train_cnn.MODEL_NAMES, help="network of model.py (%(default)s)")
    add("--trials", type=number(int, 1, 1e6), default=30, help="of the whole study (%(default)s)")
    add("--epochs", type=number(int, 1, 1e6), default=15, help="of a trial (%(default)s)")
    add("--study", type=train_cnn.run_name, default="study", help="its name (%(default)s)")
    add("--storage", metavar="URL", help="database that keeps the study (a file in its folder)")
    add("--val-size", type=number(float, 0), help="validation images: a count, or a fraction below 1 (5000)")
    add("--limit", type=number(int, 1), help="use so many images for training and validation together")
    add("--seed", type=number(int, 0, 2**31), default=0, help="of every training (%(default)s)")
    add("--data-dir", type=runtime.path_option,
        help="folder with the four files (FASHION_MNIST_DIR, or found and fetched by itself)")
    add("--output-dir", type=runtime.path_option, default="runs/studies",
        help="where the study's folder is made (%(default)s)")
    return vars(parser.parse_args(argv)), parser.error


def main(argv=None):
    config, refuse = parse_options(argv)

    def work():
        try:
            winner = tune(config, refuse)
        except KeyboardInterrupt as interrupt:
            raise type(interrupt)("Interrupted. The same command goes on; what is finished is kept.") from None
        folder = Path(config["output_dir"]) / config["study"]
        print(f"\nSaved {folder / 'report.html'} and figures/")
        print(f"Next: {command(winner)}")

    return runtime.exit_code("tune_model.py", work, (data.DataError, runs.RunError, train_cnn.TrainingError, TuneError))


if __name__ == "__main__":
    sys.exit(main())
