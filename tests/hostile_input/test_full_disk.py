"""Tests with a disk that becomes full during a write."""

import resource

import pytest

import evaluate_model
import train_cnn
from tests.hostile_input.cases import TRAIN
from tests.hostile_input.rejection import disk_contents


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, largest_file",
    [
        (evaluate_model, 10_000),
        (train_cnn, 0),
        (train_cnn, 10_000),
        (train_cnn, 400_000),
        (train_cnn, 1_000_000),
    ],
)
def test_a_failed_write_leaves_all_files_unchanged(environment, capsys, script, largest_file):
    """A limit on the file size simulates a full disk.

    The test uses capsys because capfd itself writes to a file.
    """
    arguments = (
        [environment.finished]
        if script is evaluate_model
        else [*TRAIN[1:], "--runs-dir", environment.root / "runs"]
    )
    (environment.finished / "metrics.json").write_text("previous result")
    before, limits = disk_contents(environment.root), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, limits[1]))
    try:
        code = script.main([*map(str, arguments)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = capsys.readouterr().err
    assert code == 1 and "File too large" in message and message.count("\n") == 1
    assert disk_contents(environment.root) == before
