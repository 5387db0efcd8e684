"""Every command that writes results checks its output folder before it computes anything."""

import pytest

import evaluate_model
import train_cnn
from fmnist import runtime
from tests import ROOT
from tools import (
    compare_models,
    explore_data,
    export_model,
    inspect_model,
    predict_image,
    tune_model,
)

BEST = str(ROOT / "pretrained/best")


@pytest.mark.parametrize(
    "command",
    [
        (evaluate_model, BEST),
        (explore_data,),
        (export_model, "--run", BEST),
        (inspect_model, BEST),
        (predict_image, "docs/page.png", "--run", BEST, "--figure"),
        (compare_models, "dummy"),
        (tune_model, "--trials", "1"),
        (train_cnn,),
    ],
    ids=lambda command: command[0].__name__,
)
def test_an_output_folder_that_cannot_be_written_is_an_error_at_the_start(
    command, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(runtime, "configure_tensorflow", None)  # nothing may be computed
    (tmp_path / "file").write_text("user file")
    folder = tmp_path / "file/results"
    script, *arguments = command
    option = "--runs-dir" if script is train_cnn else "--output-dir"
    assert script.main([*arguments, option, str(folder)]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert str(folder) in message and f"choose another {option}" in message
