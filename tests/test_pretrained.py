import json

import keras
import numpy as np
import pytest

import evaluate_model
from benchmarks import leaderboard
from fmnist import runs
from fmnist.config import TrainConfig
from fmnist.inference import calibration, segmentation, whole_photo
from fmnist.networks import layers_of
from model import build_model
from tests import ROOT
from tools.segmenting.training import build_networks
from tools.transfer.efficientnet import backbone

BEST = ROOT / "pretrained/best"


def test_the_pretrained_network_is_a_run_of_the_largest_row_of_the_leaderboard():
    assert {path.name for path in BEST.iterdir()} == {
        "README.md",
        runs.CONFIG,
        runs.HISTORY_FILE,
        runs.MODEL,
        "metrics.json",
        "novelty.npz",
    }
    assert (BEST / runs.MODEL).stat().st_size <= 4_500_000
    assert runs.load_model(BEST).count_params() <= 1_000_000
    config = runs.load_config(BEST)
    assert leaderboard.config_of("best-large", seed=0).gives_the_same_as(config)
    assert len(runs.load_history(BEST)) == config["epochs"]


def test_the_pretrained_network_has_the_architecture_of_the_current_recipe():
    def architecture(model):
        return [(type(layer), {**layer.get_config(), "name": None}) for layer in layers_of(model)]

    config = runs.load_config(BEST)
    assert architecture(runs.load_model(BEST)) == architecture(
        build_model(config["model"], config["ensemble_size"], width=config["width"])
    )


@pytest.mark.parametrize("run", [BEST, runs.FOR_PHOTOS])
def test_the_recorded_calibration_undoes_the_label_smoothing_of_the_training(run):
    evaluated = json.loads((run / runs.METRICS).read_text())
    assert evaluated["label_smoothing"] == runs.load_config(run)["label_smoothing"] == 0.05


def test_the_network_for_photographs_was_trained_further_on_them():
    assert {path.name for path in runs.FOR_PHOTOS.iterdir()} == {
        "README.md",
        runs.CONFIG,
        runs.HISTORY_FILE,
        runs.MODEL,
        "metrics.json",
        "novelty.npz",
        calibration.FILE,
    }
    assert (runs.FOR_PHOTOS / runs.MODEL).stat().st_size <= 2_000_000
    config, best = runs.load_config(runs.FOR_PHOTOS), runs.load_config(BEST)
    assert config["augment"] == "photo" and config["init_from"] == "runs/best"
    for name in ("model", "seed", "val_size", "fingerprint"):
        assert config[name] == best[name]
    recipe = TrainConfig(recipe="best")  # the run from which it was trained further
    assert config["ensemble_size"] == recipe.ensemble_size and config["width"] == recipe.width
    assert runs.load_model(runs.FOR_PHOTOS).count_params() <= 480_000
    saved = calibration.load(runs.FOR_PHOTOS)
    assert saved.other.images >= calibration.LEAST_PHOTOGRAPHS and saved.plain.images == 2000


def test_the_segmentation_network_is_small_and_has_the_current_architecture():
    path = segmentation.FOLDER / runs.MODEL
    assert path.stat().st_size <= 1_000_000
    saved = keras.models.load_model(path)
    current = build_networks()[0]
    assert [type(layer) for layer in saved.layers] == [type(layer) for layer in current.layers]
    assert saved.count_params() == current.count_params()


def test_the_network_for_whole_photographs_has_the_current_architecture():
    """Its features were compared with those of the original in PyTorch."""
    path = whole_photo.FOLDER / runs.MODEL
    assert path.stat().st_size <= 14_000_000
    files = {path.name for path in whole_photo.FOLDER.iterdir()}
    assert files == {"README.md", runs.MODEL, whole_photo.STATISTICS}
    saved, current = keras.models.load_model(path), backbone(whole_photo.SIDE)
    kinds = [type(layer) for layer in current.layers] + [keras.layers.Dense]
    assert [type(layer) for layer in saved.layers] == kinds
    assert saved.count_params() == current.count_params() + 10 * (whole_photo.FEATURES + 1)
    current.set_weights(saved.get_weights()[:-2])
    pixels = np.random.default_rng(0).random((1, *saved.input_shape[1:]), np.float32)
    features = keras.Model(saved.input, saved.layers[-1].input)(pixels)
    np.testing.assert_allclose(current(pixels), features, atol=1e-5)


@pytest.mark.slow
def test_evaluation_reproduces_the_metrics_of_the_pretrained_network(
    real_data, no_figures, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluate_model, "TRAINING_SAMPLE", 500)  # their metrics are not compared
    before = {path: path.read_bytes() for path in BEST.iterdir()}
    options = [
        str(BEST),
        "--data-dir",
        real_data,
        "--output-dir",
        str(tmp_path),
        "--test-time-flips",
    ]
    assert evaluate_model.main(options) == 0
    results, saved = (
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path, BEST)
    )
    # Another machine rounds differently, which may change the predictions for two images.
    assert results["accuracy"] == pytest.approx(saved["accuracy"], abs=2.5e-4)
    assert results["without_flips"]["accuracy"] == pytest.approx(
        saved["without_flips"]["accuracy"], abs=2.5e-4
    )
    assert results["temperature"] == pytest.approx(saved["temperature"], rel=1e-2)
    assert {path: path.read_bytes() for path in BEST.iterdir()} == before
