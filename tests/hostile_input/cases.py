"""What a case of a hostile input is, and what many kinds of cases share."""

import json
from collections.abc import Callable
from typing import NamedTuple

import evaluate_model
import train_cnn

TRAIN = (train_cnn, "--val-size", "100", "--batch-size", "100")


class World(NamedTuple):
    """What every test gets a copy of."""

    root: object  # the folder of all others, where nothing may change
    data: object  # made data, which data.py takes for the official one
    finished: object  # a run
    unfinished: object  # a run that was broken off after its third epoch


class Case(NamedTuple):
    cause: str
    input: str
    spoil: Callable  # of the world
    command: Callable  # of the world: returns the script and its arguments
    word: str  # has to stand in the message
    code: int = 1


def text_is(text):
    def spoil(path):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return spoil


def evaluate_finished(world):
    return evaluate_model, world.finished


def resume_unfinished(world):
    return train_cnn, "--resume", world.unfinished


def run_file_cases(name, ways, commands):
    for cause, spoil in ways.items():
        for run, command in commands.items():
            yield Case(
                f"{name}: {cause}",
                run,
                lambda world, spoil=spoil, run=run: spoil(getattr(world, run) / name),
                command,
                name.split("/")[-1],
            )


def settings_are(run, **changes):
    """Return a way to change settings; a value of `None` in a tuple of its own takes the setting
    away.
    """

    def spoil(world):
        path = getattr(world, run) / "config.json"
        config = json.loads(path.read_text()) | changes
        path.write_text(
            json.dumps({key: value for key, value in config.items() if value != (None,)})
        )

    return spoil


def unspoilt(world):
    pass
