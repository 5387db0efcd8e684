"""Hostile inputs: the checkpoint that --resume loads."""

import io
import json

import numpy as np

from tests.hostile_input.cases import resume_unfinished, run_file_cases
from tests.hostile_input.files import (
    FILE_CORRUPTIONS,
    Payload,
    truncated_at_the_end,
    with_flipped_bit,
)
from tests.hostile_input.rejection import test_the_input_is_rejected  # noqa: F401


def change_state(change):
    """Return a function that corrupts the checkpoint; `change` maps a dict of arrays to another."""

    def corrupt(path):
        with np.load(path) as state:
            arrays = change(dict(state))
        np.savez(path, **arrays)

    return corrupt


def change_history_in_state(change):
    return change_state(
        lambda arrays: arrays | {"history": json.dumps(change(json.loads(str(arrays["history"]))))}
    )


def without(arrays, *names):
    return {name: array for name, array in arrays.items() if name not in names}


STATE_CORRUPTIONS = {
    "the last array missing": change_state(
        lambda arrays: without(arrays, f"arr_{len(arrays) - 2}")
    ),
    "an array missing": change_state(lambda arrays: without(arrays, "arr_3")),
    "an additional array": change_state(
        lambda arrays: arrays | {f"arr_{len(arrays) - 1}": np.zeros(3, np.float32)}
    ),
    "no arrays": change_state(lambda arrays: {"history": arrays["history"]}),
    "an array of another shape": change_state(
        lambda arrays: arrays | {"arr_0": arrays["arr_0"][..., :1]}
    ),
    "an array of another type": change_state(
        lambda arrays: arrays | {"arr_0": arrays["arr_0"].astype(np.float64)}
    ),
    "an array of objects": change_state(
        lambda arrays: arrays | {"arr_0": np.array([Payload()], object)}
    ),
    "history missing": change_state(lambda arrays: without(arrays, "history")),
    "history is not JSON": change_state(lambda arrays: arrays | {"history": "{"}),
    "history is a number": change_history_in_state(lambda rows: 3),
    "history nested too deeply": change_state(lambda arrays: arrays | {"history": "[" * 100_000}),
    "history of objects": change_state(
        lambda arrays: arrays | {"history": np.array([Payload()], object)}
    ),
    "a row is not an object": change_history_in_state(lambda rows: [3]),
    "a row lacks a value": change_history_in_state(lambda rows: [{"epoch": 1}]),
    "a value is a list": change_history_in_state(lambda rows: [rows[0] | {"loss": [1]}]),
    "a value is null": change_history_in_state(lambda rows: [rows[0] | {"loss": None}]),
    "an epoch missing": change_history_in_state(lambda rows: rows[1:]),
    "one array, not an archive": lambda path: path.write_bytes(npy_bytes(np.zeros(3))),
    "a bit flipped": lambda path: path.write_bytes(
        with_flipped_bit(path.read_bytes(), path.stat().st_size // 2)
    ),
}


def npy_bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def state_cases():
    corruptions = (
        {corrupt.__name__: corrupt for corrupt in FILE_CORRUPTIONS}
        | {"truncated_at_the_end": truncated_at_the_end}
        | STATE_CORRUPTIONS
    )
    yield from run_file_cases(
        "checkpoint/state.npz", corruptions, {"unfinished": resume_unfinished}
    )


CASES = [*state_cases()]
