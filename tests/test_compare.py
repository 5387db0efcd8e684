"""compare_models.py on small made data, here and on a cluster of processes."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import baselines
import compare_models
import runs
import train_cnn

ROOT = Path(__file__).parent.parent
SMALL = ["--val-size", "100", "--epochs", "2"]


@pytest.fixture
def compare(made_data, tmp_path, capsys):
    def run(*options, code=0):
        assert compare_models.main([*SMALL, "--output-dir", str(tmp_path / "out"), *options]) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err
    return run


def table(folder):
    with open(folder / "comparison.csv") as stream:
        return {row["name"]: row for row in csv.DictReader(stream)}


def test_networks_and_baselines_are_trained_once_and_compared(compare, tmp_path, monkeypatch):
    names = ("dropout_cnn", "knn", "dummy")
    first = compare(*names, "--seeds", "2")
    out = tmp_path / "out"
    rows = table(out)
    assert {*rows} == {*names}
    scores = [json.loads((out / f"dropout_cnn-{seed}/metrics.json").read_text()) for seed in (0, 1)]
    row = rows["dropout_cnn"]
    assert float(row["accuracy"]) == pytest.approx(np.mean([score["accuracy"] for score in scores]))
    assert float(row["val_accuracy"]) == pytest.approx(np.mean([score["validation"]["accuracy"] for score in scores]))
    assert float(row["f1"]) == pytest.approx(np.mean([score["per_class"]["macro avg"]["f1-score"] for score in scores]))
    assert float(rows["dummy"]["behind_high"]) < -0.5  # guesses against whatever is first
    best = max(rows, key=lambda name: float(rows[name]["val_accuracy"]))
    assert f"The most accurate on validation images is {best}" in first and rows[best]["behind"] == ""

    page = (out / "report.html").read_text()
    for name in ("accuracy_against_cost", "classes", "gaps", "confusion_difference"):
        assert (out / f"figures/{name}.png").stat().st_size > 3000
        assert f'alt="{name}"' in page

    monkeypatch.setattr(train_cnn, "train", None)
    monkeypatch.setattr(baselines, "BASELINES", None)
    before = (out / "comparison.md").read_text()
    compare(*names, "--seeds", "2")
    assert (out / "comparison.md").read_text() == before


def test_a_failing_training_does_not_stop_the_rest(compare, tmp_path, monkeypatch):
    monkeypatch.setitem(baselines.BASELINES, "knn", None)
    errors = compare("knn", "dummy", "--seeds", "1", code=1)
    assert errors.startswith("compare_models.py: 1 failed: knn, seed 0: TypeError") and errors.count("\n") == 1
    assert {*table(tmp_path / "out")} == {"dummy"}
    assert "Traceback" in (tmp_path / "out/logs/knn-0.log").read_text()


def test_a_training_that_was_broken_off_goes_on(compare, tmp_path, monkeypatch):
    compare("lenet_l2", "--seeds", "1")
    history = runs.load_history(tmp_path / "out/lenet_l2-0")
    shutil.rmtree(tmp_path / "out")
    save_epoch = runs.save_epoch

    def interrupt(*arguments):
        save_epoch(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_epoch", interrupt)
        assert "The same command goes on" in compare("lenet_l2", "--seeds", "1", code=130)
    assert len(runs.load_history(tmp_path / "out/lenet_l2-0")) == 1
    compare("lenet_l2", "--seeds", "1")
    resumed = runs.load_history(tmp_path / "out/lenet_l2-0")
    assert [row["val_loss"] for row in resumed] == [row["val_loss"] for row in history]


def test_results_of_other_options_and_broken_ones_are_refused_and_kept(compare, tmp_path):
    compare("dummy", "lenet_l2", "--seeds", "1")
    kept = (tmp_path / "out/lenet_l2-0/model.keras").read_bytes()
    errors = compare("dummy", "lenet_l2", "--seeds", "1", "--epochs", "3", code=1)
    assert "1 failed: lenet_l2, seed 0" in errors and "made with other options" in errors and errors.count("\n") == 1
    (tmp_path / "out/dummy-0/result.json").write_text("{")
    errors = compare("dummy", "lenet_l2", "--seeds", "1", code=1)
    assert "dummy-0/result.json is broken" in errors and errors.count("\n") == 1
    assert (tmp_path / "out/lenet_l2-0/model.keras").read_bytes() == kept
