"""tune_model.py on small data, with a journal file and with PostgreSQL."""

import errno
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

TIMEOUT = 120  # seconds; what a test waits for usually takes a few seconds
SMALL = ["--val-size", "100", "--epochs", "2", "--model", "lenet_l2"]


@pytest.fixture
def tune(synthetic_dataset, tmp_path, capsys):
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


def test_the_search_space_has_valid_settings_of_train_cnn():
    for name, values in SPACE.items():
        for value in values:
            assert getattr(TrainConfig(**{name: value}), name) == value


@pytest.mark.slow
def test_a_study_prints_the_command_of_its_best_trial_and_can_be_extended(
    tune, tmp_path, monkeypatch
):
    output = tune("--trials", "3")
    study, folder = study_of(tmp_path / "study"), tmp_path / "study"
    assert len(study.trials) == 3
    command = shlex.split(output.splitlines()[-1].removeprefix("Next: "))
    assert command[:2] == ["python", "train_cnn.py"]
    config, _ = parse_arguments("", command[2:])
    run = folder / study.best_trial.user_attrs["run"]
    assert config.gives_the_same_as(runs.load_config(run))
    # Not the defaults of train_cnn.py, so that stored studies remain comparable.
    assert (config.optimizer, config.ema_epochs, config.prune_every) == ("adam", 0.5, 1)
    assert runs.load_history(run)[-1]["val_accuracy"] == pytest.approx(study.best_value)
    page = (folder / "report.html").read_text()
    for name in report.CAPTIONS:
        assert (folder / f"figures/{name}.png").stat().st_size > 3000 and f'alt="{name}"' in page

    monkeypatch.setattr(report, "draw", lambda study: {})
    assert "[3/3]" not in tune("--trials", "3")  # the study is complete
    assert "[4/4] trial 3" in tune("--trials", "4")
    assert len(study_of(folder).trials) == 4


@pytest.mark.slow
def test_a_study_needs_no_symbolic_links(tune, tmp_path, monkeypatch):
    def symlink(*arguments, **options):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", symlink)
    monkeypatch.setattr(report, "draw", lambda study: {})
    assert "[1/1] trial 0" in tune("--trials", "1")


@pytest.mark.slow
def test_an_interrupted_trial_is_resumed(tune, tmp_path, interrupt_after_first_epoch):
    with interrupt_after_first_epoch():
        assert "Run the same command again" in tune("--trials", "1", code=130)
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
    assert "resumed after epoch 1" in (tmp_path / "study/logs/trial-0000.log").read_text()


@pytest.mark.slow
def test_a_pruned_trial_is_reported_and_removed(tune, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number == 1)
    assert "trial 1: pruned" in tune("--trials", "2")
    assert not (tmp_path / "study/trial-0001").exists() and (tmp_path / "study/trial-0000").exists()


@pytest.mark.slow
def test_studies_that_cannot_be_continued_are_rejected_with_one_line_and_kept(tune, tmp_path):
    tune("--trials", "1")
    journal = (tmp_path / "study/journal.log").read_bytes()
    assert "with other settings" in tune("--storage", f"sqlite:///{tmp_path}/other.db", code=1)
    for options, expected in (
        (["--epochs", "3"], "other settings"),
        (["--model", "dropout_cnn"], "other settings"),
        (["--storage", "postgresql+psycopg://nobody@127.0.0.1:1/none"], "cannot be opened"),
        (["--storage", "nonsense"], "cannot be opened"),
    ):
        message = tune(*options, code=1)
        assert expected in message and message.count("\n") == 1
    assert (tmp_path / "study/journal.log").read_bytes().startswith(journal)
    assert len(study_of(tmp_path / "study").trials) == 1
    (tmp_path / "study/journal.log").write_text("not a journal\n")
    message = tune("--trials", "1", code=1)
    assert "cannot be opened" in message and message.count("\n") == 1


@pytest.fixture
def workers(real_data, tmp_path):
    """A function that starts tune_model.py on real images in a process of its own.

    Processes that still run at the end of the test are killed.
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


def wait_for(condition):
    end = time.monotonic() + TIMEOUT
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return result


def finish(process):
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_another_process_resumes_the_trial_of_a_killed_one_from_its_last_epoch(workers, tmp_path):
    victim = workers()
    wait_for(lambda: list(tmp_path.glob("study/trial-0000/model.keras")))
    other = workers()
    victim.kill()
    victim.wait()
    assert "Next: python train_cnn.py" in finish(other)
    study = study_of(tmp_path / "study")
    states = [trial.state.name for trial in study.trials]
    assert states.count("FAIL") == 1 and states.count("COMPLETE") + states.count("PRUNED") == 4
    attempts = [trial for trial in study.trials if trial.user_attrs["run"] == "trial-0000"]
    assert [trial.state.name for trial in attempts] == ["FAIL", "COMPLETE"]
    assert attempts[0].params == attempts[1].params
    assert "resumed after epoch" in (tmp_path / "study/logs/trial-0000.log").read_text()


@pytest.fixture
def postgresql(tmp_path):
    """The URL of a database in a PostgreSQL server that runs for this test only."""
    programs = next(Path("/usr/lib/postgresql").glob("*/bin"), None)
    if not programs:
        pytest.skip("PostgreSQL is not installed (Debian package postgresql)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder = Path(tempfile.mkdtemp())  # other users cannot read tmp_path
    other_user = {}
    if os.geteuid() == 0:  # PostgreSQL does not run as root
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
    server.send_signal(signal.SIGINT)  # shuts down without waiting for connected clients
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
    processes = {trial.user_attrs["process"] for trial in study.trials}
    assert len(processes) == 2
    finished = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert 4 <= len(finished) <= 5  # both processes may finish their last trial at the same time
