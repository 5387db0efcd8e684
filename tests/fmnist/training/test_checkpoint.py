import os
import subprocess
import sys

import numpy as np
import pytest

import train_cnn
from fmnist import atomic_io, runs
from fmnist.training import checkpoint
from tests import synthetic_data

OPTIONS = [
    "--val-size",
    "100",
    "--batch-size",
    "100",
    "--learning-rate",
    "0.003",
    "--augment",
    "flip+shift",
]


class Killed(BaseException):
    """Simulates that the process is killed."""


def train(tmp_path, name, *options):
    assert train_cnn.main([*OPTIONS, "--runs-dir", str(tmp_path), "--name", name, *options]) == 0
    return tmp_path / name


def results_of(run):
    """Return history (without seconds) and weights of a finished run."""
    assert sorted(path.name for path in run.iterdir()) == [
        "config.json",
        "history.csv",
        "model.keras",
    ]
    rows = [
        [value for key, value in row.items() if key != "seconds"] for row in runs.load_history(run)
    ]
    return rows, runs.load_model(run).get_weights()


def assert_equal_results(run, other):
    rows, arrays = results_of(run)
    other_rows, other_arrays = results_of(other)
    assert rows == other_rows
    for array, other_array in zip(arrays, other_arrays, strict=True):
        np.testing.assert_array_equal(array, other_array)


def kill_at(monkeypatch, count):
    """Raise Killed after the count-th call of os.replace; 3.5 means before the fourth call."""
    replace, remaining = os.replace, [count]

    def replace_or_kill(*paths):
        remaining[0] -= 0.5
        if remaining[0] == 0:
            raise Killed
        replace(*paths)
        remaining[0] -= 0.5
        if remaining[0] == 0:
            raise Killed

    monkeypatch.setattr(os, "replace", replace_or_kill)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        [*synthetic_data.OPTIONS, "--patience", "4", "--epochs", "12", "--dropout", "0"],
        [
            "--recipe",
            "quick",
            "--model",
            "dropout_cnn",
            "--dropout",
            "0.2",
            "--epochs",
            "4",
            "--ema-epochs",
            "2",
            "--ensemble-size",
            "2",
        ],
        ["--engine", "plain", "--epochs", "3", "--prune-every", "1", "--width", "0.2"],
        ["--engine", "plain", "--epochs", "3", "--ensemble-size", "2", "--width", "0.2"],
    ],
    ids=["Adam and plateau", "quick", "plain", "plain ensemble with data pruning"],
)
def test_a_run_that_is_killed_and_resumed_several_times_gives_bit_identical_results(
    random_label_dataset, tmp_path, monkeypatch, options
):
    states, finish = {}, runs.finish  # variables of model and optimizer at the end of a training

    def record_state_and_finish(run):
        states[run.name] = checkpoint.load_state(run)[0]
        finish(run)

    monkeypatch.setattr(runs, "finish", record_state_and_finish)
    reference, kills = train(tmp_path, "reference", *options), 0
    arguments = [*OPTIONS, "--runs-dir", str(tmp_path), "--name", "killed", *options]
    # The kills occur between the files of the first epoch, after another epoch, while the files of
    # a resumed run are restored, and much later, unless the training has ended before.
    for count in (3.5, 5, 1, 20):
        with monkeypatch.context() as patch:
            kill_at(patch, count)
            try:
                train_cnn.main(arguments)
            except Killed:
                kills += 1
        arguments = ["--resume", "--runs-dir", str(tmp_path)]
    assert kills >= 3
    assert_equal_results(tmp_path / "killed", reference)
    for array, other_array in zip(states["reference"], states["killed"], strict=True):
        np.testing.assert_array_equal(array, other_array)


def failure(capfd, *arguments):
    assert train_cnn.main([*arguments]) == 1
    message = capfd.readouterr().err
    assert message.count("\n") == 1 and "Traceback" not in message
    return message


@pytest.fixture
def interrupted(synthetic_dataset, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 4)
        train_cnn.main([*OPTIONS, "--runs-dir", str(tmp_path), "--name", "run"])
    return tmp_path / "run"


def test_a_run_that_cannot_be_resumed_causes_a_one_line_error(interrupted, capfd, monkeypatch):
    state, config = interrupted / "checkpoint/state.npz", interrupted / "config.json"
    content = state.read_bytes()
    with runs.lock(interrupted):
        assert "another process" in failure(capfd, "--resume", str(interrupted))
    state.write_bytes(content[:-100])
    assert "state.npz is corrupt" in failure(capfd, "--resume", str(interrupted))
    assert state.read_bytes() == content[:-100]
    state.write_bytes(content)
    settings = runs.load_config(interrupted)
    for change, word in (
        ({"model": "gap_cnn"}, "another network"),
        ({"fingerprint": "0"}, "other data"),
    ):
        atomic_io.write_json(config, settings | change)
        assert word in failure(capfd, "--resume", str(interrupted))
    atomic_io.write_json(config, {key: value for key, value in settings.items() if key != "epochs"})
    assert "the setting epochs is missing" in failure(capfd, "--resume", str(interrupted))
    assert "not a run directory" in failure(capfd, "--resume", str(interrupted / "nothing"))


def test_a_finished_run_is_not_trained_again(synthetic_dataset, tmp_path, capsys):
    run = train(tmp_path, "run", "--epochs", "1")
    before = (run / "model.keras").read_bytes()
    settings = runs.load_config(run)
    # A run of an earlier version lacks some settings.
    atomic_io.write_json(
        run / "config.json", {key: settings[key] for key in settings if key != "ema_epochs"}
    )
    assert train_cnn.main(["--resume", str(run)]) == 0
    assert "is finished" in capsys.readouterr().out and (run / "model.keras").read_bytes() == before
    assert train_cnn.main(["--resume", "--runs-dir", str(tmp_path)]) == 1
    assert "no resumable run" in capsys.readouterr().err


@pytest.mark.slow
def test_resuming_a_finished_run_removes_its_stale_temporary_files(synthetic_dataset, tmp_path):
    run = train(tmp_path, "run", "--epochs", "1")
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        dead.wait()
    (run / f"{atomic_io.TEMPORARY_PREFIX}{dead.pid}-{atomic_io.MACHINE_ID}-checkpoint").mkdir()
    assert train_cnn.main(["--resume", str(run)]) == 0
    results_of(run)


def test_resume_accepts_no_other_settings(capsys):
    with pytest.raises(SystemExit):
        train_cnn.main(["--resume", "--epochs", "3"])
    assert "--resume uses the --epochs of the run" in capsys.readouterr().err
