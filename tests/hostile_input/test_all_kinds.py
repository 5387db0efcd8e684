"""Tests of all kinds of hostile inputs together, and of their environment."""

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
def test_the_unchanged_environment_is_valid(environment):
    assert evaluate_model.main([str(environment.finished)]) == 0
    assert train_cnn.main(["--resume", str(environment.unfinished)]) == 0
    assert len(runs.load_history(environment.unfinished)) == 5


def test_many_causes_are_covered():
    assert len({case.cause for case in CASES}) >= 60 and len(CASES) >= 300
