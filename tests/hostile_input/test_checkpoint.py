"""The state that --resume goes on with, spoilt."""

import io
import json

import numpy as np

from tests.hostile_input.cases import resume_unfinished, run_file_cases
from tests.hostile_input.files import ANY_FILE, Payload, cut_at_its_end, flipped
from tests.hostile_input.refusal import test_it_is_refused  # noqa: F401


def state_is(change):
    """change: of a dict of arrays."""

    def spoil(path):
        with np.load(path) as state:
            arrays = change(dict(state))
        np.savez(path, **arrays)

    return spoil


def history_in_state(change):
    return state_is(
        lambda arrays: arrays | {"history": json.dumps(change(json.loads(str(arrays["history"]))))}
    )


def without(arrays, *names):
    return {name: array for name, array in arrays.items() if name not in names}


STATE_WAYS = {
    "the last array missing": state_is(lambda arrays: without(arrays, f"arr_{len(arrays) - 2}")),
    "an array missing": state_is(lambda arrays: without(arrays, "arr_3")),
    "an array too many": state_is(
        lambda arrays: arrays | {f"arr_{len(arrays) - 1}": np.zeros(3, np.float32)}
    ),
    "no array at all": state_is(lambda arrays: {"history": arrays["history"]}),
    "an array of another shape": state_is(
        lambda arrays: arrays | {"arr_0": arrays["arr_0"][..., :1]}
    ),
    "an array of another type": state_is(
        lambda arrays: arrays | {"arr_0": arrays["arr_0"].astype(np.float64)}
    ),
    "an array of objects": state_is(
        lambda arrays: arrays | {"arr_0": np.array([Payload()], object)}
    ),
    "history missing": state_is(lambda arrays: without(arrays, "history")),
    "history is no JSON": state_is(lambda arrays: arrays | {"history": "{"}),
    "history is a number": history_in_state(lambda rows: 3),
    "history too deep": state_is(lambda arrays: arrays | {"history": "[" * 100_000}),
    "history of objects": state_is(
        lambda arrays: arrays | {"history": np.array([Payload()], object)}
    ),
    "a row is no object": history_in_state(lambda rows: [3]),
    "a row lacks a value": history_in_state(lambda rows: [{"epoch": 1}]),
    "a value is a list": history_in_state(lambda rows: [rows[0] | {"loss": [1]}]),
    "a value is null": history_in_state(lambda rows: [rows[0] | {"loss": None}]),
    "an epoch lost": history_in_state(lambda rows: rows[1:]),
    "one array, not an archive": lambda path: path.write_bytes(npy_bytes(np.zeros(3))),
    "a bit flipped": lambda path: path.write_bytes(
        flipped(path.read_bytes(), path.stat().st_size // 2)
    ),
}


def npy_bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def state_cases():
    ways = (
        {spoil.__name__: spoil for spoil in ANY_FILE}
        | {"cut_at_its_end": cut_at_its_end}
        | STATE_WAYS
    )
    yield from run_file_cases("checkpoint/state.npz", ways, {"unfinished": resume_unfinished})


CASES = [*state_cases()]
