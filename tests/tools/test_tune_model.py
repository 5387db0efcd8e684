"""tune_model.py on small made data, with a journal and with PostgreSQL."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fmnist import runs
from fmnist.config import TrainConfig, parse_arguments
from tests import ROOT
from tools import tune_model
from tools.tuning.space import SPACE

optuna = pytest.importorskip("optuna", reason="Optuna is not installed")
report = pytest.importorskip("tools.tuning.report")

PATIENCE_SECONDS = 120  # of a test for what it waits for, which comes within a few seconds
SMALL = ["--val-size", "100", "--epochs", "2", "--model", "lenet_l2"]


@pytest.fixture
def tune(made_data, tmp_path, capsys):
    def run(*options, code=0):
        assert tune_model.main([*SMALL, "--output-dir", str(tmp_path), *options]) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return run


def study_of(folder):
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(folder / "journal.log"))
    )
    return optuna.load_study(study_name="study", storage=storage)


def test_the_space_is_of_options_that_train_cnn_has():
    for name, values in SPACE.items():
        for value in values:
            assert getattr(TrainConfig(**{name: value}), name) == value


@pytest.mark.slow
def test_a_study_ends_with_the_command_of_its_winner_and_goes_on(tune, tmp_path, monkeypatch):
    output = tune("--trials", "3")
    study, folder = study_of(tmp_path / "study"), tmp_path / "study"
    assert len(study.trials) == 3
    command = shlex.split(output.splitlines()[-1].removeprefix("Next: "))
    assert command[:2] == ["python", "train_cnn.py"]
    config, _ = parse_arguments("", command[2:])
    run = folder / study.best_trial.user_attrs["run"]
    assert config.gives_the_same_as(runs.load_config(run))
    assert runs.load_history(run)[-1]["val_accuracy"] == pytest.approx(study.best_value)
    page = (folder / "report.html").read_text()
    for name in report.CAPTIONS:
        assert (folder / f"figures/{name}.png").stat().st_size > 3000 and f'alt="{name}"' in page

    monkeypatch.setattr(report, "draw", lambda study: {})
    assert "[3/3]" not in tune("--trials", "3")  # nothing to do
    assert "[4/4] trial 3" in tune("--trials", "4")
    assert len(study_of(folder).trials) == 4


@pytest.mark.slow
def test_a_trial_that_was_broken_off_goes_on(tune, tmp_path, interrupted_after_an_epoch):
    with interrupted_after_an_epoch():
        assert "The same command goes on" in tune("--trials", "1", code=130)
    before = study_of(tmp_path / "study").trials[0]
    with open(tmp_path / "study/journal.log", "a") as journal:
        journal.write('{"op_code": 4, "cut')
    tune("--trials", "1")
    first, second = study_of(tmp_path / "study").trials
    assert (
        first.state.name == "FAIL"
        and second.state.name == "COMPLETE"
        and second.params == before.params
    )
    assert second.user_attrs["run"] == "trial-0000"
    assert "1 epochs were done before" in (tmp_path / "study/logs/trial-0000.log").read_text()


@pytest.mark.slow
def test_hopeless_trials_are_given_up(tune, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number == 1)
    assert "trial 1: pruned" in tune("--trials", "2")
    assert not (tmp_path / "study/trial-0001").exists() and (tmp_path / "study/trial-0000").exists()


@pytest.mark.slow
def test_studies_that_cannot_go_on_are_refused_in_a_line_and_kept(tune, tmp_path):
    tune("--trials", "1")
    journal = (tmp_path / "study/journal.log").read_bytes()
    assert "made with other options" in tune("--storage", f"sqlite:///{tmp_path}/other.db", code=1)
    for options, said in (
        (["--epochs", "3"], "other options"),
        (["--model", "dropout_cnn"], "other options"),
        (["--storage", "postgresql+psycopg://nobody@127.0.0.1:1/none"], "cannot be opened"),
        (["--storage", "nonsense"], "cannot be opened"),
    ):
        message = tune(*options, code=1)
        assert said in message and message.count("\n") == 1
    assert (tmp_path / "study/journal.log").read_bytes().startswith(journal)
    assert len(study_of(tmp_path / "study").trials) == 1
    (tmp_path / "study/journal.log").write_text("no journal\n")
    message = tune("--trials", "1", code=1)
    assert "cannot be opened" in message and message.count("\n") == 1


@pytest.fixture
def workers(real_data, tmp_path):
    """Start tune_model.py in processes of their own, on real images, and stop what is left of them
    at the end.
    """
    started = []

    def start(*options):
        command = [
            sys.executable,
            "-m",
            "tools.tune_model",
            "--data-dir",
            real_data,
            "--output-dir",
            tmp_path,
            "--model",
            "lenet_l2",
            "--limit",
            "1500",
            "--epochs",
            "6",
            "--trials",
            "4",
            *options,
        ]
        started.append(
            subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(happens):
    end = time.monotonic() + PATIENCE_SECONDS
    while not (result := happens()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return result


def finish(process):
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(workers, tmp_path):
    """The trial of a process that was killed goes on in another one, from its last epoch."""
    victim = workers()
    wait_for(lambda: list(tmp_path.glob("study/trial-0000/model.keras")))
    other = workers()
    victim.kill()
    victim.wait()
    assert "Next: python train_cnn.py" in finish(other)
    study = study_of(tmp_path / "study")
    states = [trial.state.name for trial in study.trials]
    assert states.count("FAIL") == 1 and states.count("COMPLETE") + states.count("PRUNED") == 4
    again = [trial for trial in study.trials if trial.user_attrs["run"] == "trial-0000"]
    assert [trial.state.name for trial in again] == ["FAIL", "COMPLETE"] and again[
        0
    ].params == again[1].params
    assert "epochs were done before" in (tmp_path / "study/logs/trial-0000.log").read_text()


@pytest.fixture
def postgresql(tmp_path):
    """The address of a database of a PostgreSQL of the test's own."""
    programs = next(Path("/usr/lib/postgresql").glob("*/bin"), None)
    if not programs:
        pytest.skip("PostgreSQL is not installed; it is Debian's package postgresql")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder = Path(tempfile.mkdtemp())  # and not tmp_path, which nobody else may enter
    other_user = {}
    if os.geteuid() == 0:  # whom PostgreSQL does not serve
        shutil.chown(folder, "postgres")
        other_user = {"user": "postgres", "cwd": folder}
    subprocess.run(
        [programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "tuner", "--no-sync"],
        check=True,
        capture_output=True,
        **other_user,
    )
    server = subprocess.Popen(
        [programs / "postgres", "-D", folder / "data", "-k", folder, "-h", "127.0.0.1", "-p", port],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **other_user,
    )
    wait_for(
        lambda: (
            subprocess.run(
                [programs / "pg_isready", "-h", "127.0.0.1", "-p", port], capture_output=True
            ).returncode
            == 0
        )
    )
    yield f"postgresql+psycopg://tuner@127.0.0.1:{port}/postgres"
    server.send_signal(signal.SIGINT)  # which does not wait for those that are connected
    server.wait()
    shutil.rmtree(folder)


@pytest.mark.cluster
@pytest.mark.slow
def test_workers_share_a_study_in_postgresql(workers, postgresql, tmp_path):
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    both = [
        workers("--storage", postgresql, "--output-dir", str(tmp_path / str(number)))
        for number in (0, 1)
    ]
    for process in both:
        finish(process)
    study = optuna.load_study(study_name="study", storage=postgresql)
    hosts = {trial.user_attrs["process"] for trial in study.trials}
    assert len(hosts) == 2
    over = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert 4 <= len(over) <= 5  # two may have ended the last at once
