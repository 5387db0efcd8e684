"""A disk that is full in the middle of a write."""

import resource

import pytest

import evaluate_model
import train_cnn
from tests.hostile_input.cases import TRAIN
from tests.hostile_input.refusal import everything


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, room",
    [
        (evaluate_model, 10_000),
        (train_cnn, 0),
        (train_cnn, 10_000),
        (train_cnn, 400_000),
        (train_cnn, 1_000_000),
    ],
)
def test_a_write_that_stops_in_its_middle_leaves_all_as_it_was(world, capsys, script, room):
    """By a limit on the size of files, as a full disk would stop it; capfd would have to write to a
    file itself.
    """
    arguments = (
        [world.finished]
        if script is evaluate_model
        else [*TRAIN[1:], "--runs-dir", world.root / "runs"]
    )
    (world.finished / "metrics.json").write_text("an older result")
    before, limits = everything(world.root), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        code = script.main([*map(str, arguments)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = capsys.readouterr().err
    assert code == 1 and "File too large" in message and message.count("\n") == 1
    assert everything(world.root) == before
