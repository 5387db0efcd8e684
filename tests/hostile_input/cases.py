"""Test cases of hostile inputs, and helpers for many kinds of cases."""

import json
from collections.abc import Callable
from typing import NamedTuple

import evaluate_model
import train_cnn

TRAIN = (train_cnn, "--val-size", "100", "--batch-size", "100")
REMOVED = object()  # value of a setting that change_settings() removes


class Environment(NamedTuple):
    """The files that every test gets a copy of."""

    root: object  # folder that contains the others and must not change
    data: object  # folder with synthetic data that data.py accepts as Fashion-MNIST
    finished: object  # finished run
    unfinished: object  # run that was interrupted after the third epoch


class Case(NamedTuple):
    """A hostile input and the expected error.

    Attributes:
        cause: what is wrong with the input.
        input: file, option or setting that is wrong.
        corrupt: function that creates the hostile input in an Environment.
        command: function that returns the script and its arguments for an Environment.
        word: text that the error message must contain.
        code: expected exit code.
    """

    cause: str
    input: str
    corrupt: Callable
    command: Callable
    word: str
    code: int = 1


def replace_text(text):
    """Return a function that replaces the content of a file."""

    def corrupt(path):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return corrupt


def evaluate_finished(environment):
    return evaluate_model, environment.finished


def resume_unfinished(environment):
    return train_cnn, "--resume", environment.unfinished


def run_file_cases(name, corruptions, commands):
    """Yield a case for every corruption of a file in a run directory and every command.

    Args:
        name: path of the file in the run directory.
        corruptions: functions that corrupt a file, by cause.
        commands: see Case, by "finished" or "unfinished", the run whose file is corrupted.
    """
    for cause, corrupt in corruptions.items():
        for run, command in commands.items():
            yield Case(
                f"{name}: {cause}",
                run,
                lambda environment, corrupt=corrupt, run=run: corrupt(
                    getattr(environment, run) / name
                ),
                command,
                name.split("/")[-1],
            )


def change_settings(run, **changes):
    """Return a function that changes settings in config.json.

    Args:
        run: "finished" or "unfinished".
        changes: new values; REMOVED removes a setting.
    """

    def corrupt(environment):
        path = getattr(environment, run) / "config.json"
        config = json.loads(path.read_text()) | changes
        path.write_text(
            json.dumps({key: value for key, value in config.items() if value is not REMOVED})
        )

    return corrupt


def unchanged(environment):
    """Change nothing, for cases in which only the command line is wrong."""
