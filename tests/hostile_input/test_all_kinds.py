"""The kinds of hostile inputs together, and the world that they are tried on."""

import pytest

import evaluate_model
import train_cnn
from fmnist import runs
from tests.hostile_input import (
    test_checkpoint,
    test_config_file,
    test_data_files,
    test_folders,
    test_history,
    test_model_file,
    test_options,
)

CASES = [
    case
    for kind in (
        test_data_files,
        test_config_file,
        test_history,
        test_checkpoint,
        test_model_file,
        test_options,
        test_folders,
    )
    for case in kind.CASES
]


@pytest.mark.slow
def test_the_world_itself_is_sound(world):
    assert evaluate_model.main([str(world.finished)]) == 0
    assert train_cnn.main(["--resume", str(world.unfinished)]) == 0
    assert len(runs.load_history(world.unfinished)) == 5


def test_there_are_many_causes():
    assert len({case.cause for case in CASES}) >= 60 and len(CASES) >= 300
