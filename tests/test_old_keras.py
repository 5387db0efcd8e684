"""Tests in an environment with the oldest supported versions: make test-old-keras."""

import os
import subprocess

import pytest

from fmnist import model_file
from tests import ROOT
from tests.saved_models import check_that_plain_keras_opens_them

PYTHON = os.environ["OLD_KERAS_PYTHON"]


def run(*arguments):
    return subprocess.run([PYTHON, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_environment_has_the_oldest_version_that_opens_saved_networks():
    version = run("-c", "import keras; print(keras.__version__)").stdout
    assert version.startswith(f"{model_file.OLDEST_KERAS}.")


def test_plain_keras_opens_saved_networks_without_a_warning(tmp_path):
    check_that_plain_keras_opens_them(PYTHON, tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        ("train_cnn.py", "--limit", "600", "--val-size", "100"),
        ("evaluate_model.py", "pretrained/best"),
        ("-m", "tools.predict_image", "docs/maps.png"),
        ("-m", "tools.explore_data"),
    ],
)
def test_commands_reject_old_packages_at_the_start(command):
    done = run(*command)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is installed, but " in done.stderr and "pip install -r requirements.txt" in done.stderr
