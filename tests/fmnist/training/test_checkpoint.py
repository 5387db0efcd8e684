import os
import subprocess
import sys

import numpy as np
import pytest

import train_cnn
from fmnist import atomic_io, runs
from fmnist.training import checkpoint

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
    """Ends a training as abruptly as Python can."""


def train(tmp_path, name, *options):
    assert train_cnn.main([*OPTIONS, "--runs-dir", str(tmp_path), "--name", name, *options]) == 0
    return tmp_path / name


def outcome(run):
    """All that a finished run leaves, but for the seconds."""
    assert sorted(path.name for path in run.iterdir()) == [
        "config.json",
        "history.csv",
        "model.keras",
    ]
    rows = [
        [value for key, value in row.items() if key != "seconds"] for row in runs.load_history(run)
    ]
    return rows, runs.load_model(run).get_weights()


def assert_same(run, other):
    rows, arrays = outcome(run)
    other_rows, other_arrays = outcome(other)
    assert rows == other_rows
    for array, other_array in zip(arrays, other_arrays, strict=True):
        np.testing.assert_array_equal(array, other_array)


def kill_at(monkeypatch, count):
    """Let the count-th file that is put in its place be the last thing that happens, or nearly
    happens.
    """
    replace, left = os.replace, [count]

    def replace_or_die(*paths):
        left[0] -= 0.5
        if left[0] == 0:
            raise Killed
        replace(*paths)
        left[0] -= 0.5
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(os, "replace", replace_or_die)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--schedule", "plateau", "--patience", "4", "--epochs", "12", "--dropout", "0"],
        [
            "--recipe",
            "quick",
            "--dropout",
            "0.2",
            "--epochs",
            "4",
            "--ema-epochs",
            "2",
            "--ensemble-size",
            "2",
        ],
    ],
    ids=["classic", "quick"],
)
def test_a_run_that_was_killed_often_ends_as_one_that_was_not(
    unlearnable_data, tmp_path, monkeypatch, options
):
    states, finish = {}, runs.finish  # weights, optimizer and averages

    def note_state_and_finish(run):
        states[run.name] = checkpoint.load_state(run)[0]
        finish(run)

    monkeypatch.setattr(runs, "finish", note_state_and_finish)
    whole, kills = train(tmp_path, "whole", *options), 0
    arguments = [*OPTIONS, "--runs-dir", str(tmp_path), "--name", "broken", *options]
    # Counted in files: before the first state, among the second epoch's, after the weights, behind
    # the last one.
    for count in (3.5, 5, 1, 20):
        with monkeypatch.context() as patch:
            kill_at(patch, count)
            try:
                train_cnn.main(arguments)
            except Killed:
                kills += 1
        arguments = ["--resume", "--runs-dir", str(tmp_path)]
    assert kills >= 3
    assert_same(tmp_path / "broken", whole)
    for array, other_array in zip(states["whole"], states["broken"], strict=True):
        np.testing.assert_array_equal(array, other_array)


def complaint(capfd, *arguments):
    assert train_cnn.main([*arguments]) == 1
    message = capfd.readouterr().err
    assert message.count("\n") == 1 and "Traceback" not in message
    return message


@pytest.fixture
def broken_off(made_data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 4)
        train_cnn.main([*OPTIONS, "--runs-dir", str(tmp_path), "--name", "run"])
    return tmp_path / "run"


def test_what_cannot_be_resumed_is_one_line(broken_off, capfd, monkeypatch):
    state, config = broken_off / "checkpoint/state.npz", broken_off / "config.json"
    content = state.read_bytes()
    with runs.lock(broken_off):
        assert "another process" in complaint(capfd, "--resume", str(broken_off))
    state.write_bytes(content[:-100])
    assert "state.npz is broken" in complaint(capfd, "--resume", str(broken_off))
    assert state.read_bytes() == content[:-100]
    state.write_bytes(content)
    settings = runs.load_config(broken_off)
    for change, word in (
        ({"model": "gap_cnn"}, "another network"),
        ({"fingerprint": "0"}, "other data"),
    ):
        atomic_io.write_json(config, settings | change)
        assert word in complaint(capfd, "--resume", str(broken_off))
    atomic_io.write_json(config, {key: value for key, value in settings.items() if key != "epochs"})
    assert "no epochs" in complaint(capfd, "--resume", str(broken_off))
    assert "not a run directory" in complaint(capfd, "--resume", str(broken_off / "nothing"))


def test_a_finished_run_is_not_trained_again(made_data, tmp_path, capsys):
    run = train(tmp_path, "run", "--epochs", "1")
    before = (run / "model.keras").read_bytes()
    settings = runs.load_config(run)
    # An old one.
    atomic_io.write_json(
        run / "config.json", {key: settings[key] for key in settings if key != "ema_epochs"}
    )
    assert train_cnn.main(["--resume", str(run)]) == 0
    assert "is finished" in capsys.readouterr().out and (run / "model.keras").read_bytes() == before
    assert train_cnn.main(["--resume", "--runs-dir", str(tmp_path)]) == 1
    assert "no unfinished run" in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_run_left_that_was_killed_while_it_finished_goes_with_the_next_look_at_it(
    made_data, tmp_path
):
    run = train(tmp_path, "run", "--epochs", "1")
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        dead.wait()
    (run / f"{atomic_io.TEMPORARY_PREFIX}{dead.pid}-{atomic_io.MACHINE_ID}-checkpoint").mkdir()
    assert train_cnn.main(["--resume", str(run)]) == 0
    outcome(run)


def test_resume_takes_no_other_settings(capsys):
    with pytest.raises(SystemExit):
        train_cnn.main(["--resume", "--epochs", "3"])
    assert "--resume takes --epochs from the run" in capsys.readouterr().err
