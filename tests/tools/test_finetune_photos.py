import json

import numpy as np
import pytest
from PIL import Image

import evaluate_model
import train_cnn
from fmnist import networks, runs
from fmnist.inference import calibration
from fmnist.inference.classifier import load_photo_classifier
from model import build_model
from tests.synthetic_data import OPTIONS
from tools import finetune_photos
from tools.finetuning import dataset, training

SENDERS = 10


@pytest.fixture
def photos(tmp_path):
    """Photographs of dark trousers and bags, and one without an item, with their labels."""
    folder, rows = tmp_path / "photos", ["file,label,sender"]
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(4 * SENDERS):
        picture = np.full((120, 120, 3), rng.integers(200, 256, 3), np.uint8)
        label = ("Trouser", "Bag")[index % 2]
        rows_, columns = (slice(15, 105), slice(45, 75)) if index % 2 == 0 else (slice(40, 80),) * 2
        picture[rows_, columns] = rng.integers(0, 60, 3)
        picture[:, :12] = 90  # something else at the edge, so that the background is not plain
        Image.fromarray(picture).save(folder / f"{index}.png")
        rows.append(f"{index}.png,{label},{index % SENDERS}")
    Image.new("RGB", (100, 100), "white").save(folder / "nothing.png")
    rows.append("nothing.png,shoe,0")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture
def short(monkeypatch):
    """Few images per epoch."""
    for name, value in {"FASHION": 64, "RENDERED": 32, "OUTLIERS": 32, "REPETITIONS": 2}.items():
        monkeypatch.setattr(training, name, value)
    monkeypatch.setattr(dataset, "RENDERED", 20)


def start(tmp_path, name="start"):
    options = ["--val-size", "100", "--epochs", "2", "--runs-dir", str(tmp_path), "--name", name]
    assert train_cnn.main([*options, *OPTIONS]) == 0
    return tmp_path / name


@pytest.mark.slow
def test_a_network_is_trained_on_photographs(
    synthetic_dataset, photos, short, no_figures, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(calibration, "LEAST_PHOTOGRAPHS", 5)
    monkeypatch.setattr(calibration, "LEAST_CERTAIN", 2)
    first = start(tmp_path)
    command = [str(photos), "--run", str(first), "--runs-dir", str(tmp_path), "--name", "tuned"]
    assert finetune_photos.main([*command, "--epochs", "12"]) == 0
    out = capsys.readouterr().out
    assert "no item found in 1" in out and f"--run {tmp_path / 'tuned'}" in out
    run = tmp_path / "tuned"
    assert runs.is_finished(run) and len(runs.load_history(run)) == 12
    config = runs.load_config(run)
    assert config["init_from"] == str(first) and config["model"] == "dropout_cnn"
    # One of the two networks was trained with 0.05, the other one without label smoothing.
    assert config["ensemble_size"] == 2 and config["label_smoothing"] == 0.025
    found = calibration.load(run)
    assert found.plain.images == 100 and found.other.images == 8

    classifier = load_photo_classifier(str(run), "runs")
    read = [classifier.read(photos / f"{index}.png") for index in range(10)]
    predicted = [outcome.probabilities.argmax() for outcome in classifier.classify(read)]
    assert (np.array(predicted) == [1, 8] * 5).sum() >= 8
    # The run can be evaluated, and be the start of another training.
    monkeypatch.setattr(evaluate_model, "TRAINING_SAMPLE", 50)
    assert evaluate_model.main([str(run)]) == 0
    command[2:3], command[-1] = [str(run)], "again"
    monkeypatch.setattr(calibration, "LEAST_PHOTOGRAPHS", 100)
    assert finetune_photos.main([*command, "--epochs", "1"]) == 0
    assert calibration.load(tmp_path / "again").other == found.other


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(synthetic_dataset, photos, short, tmp_path):
    first = start(tmp_path)
    weights = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        command = [str(photos), "--run", str(first), "--runs-dir", str(tmp_path), "--name", name]
        assert finetune_photos.main([*command, "--epochs", "1", "--seed", seed]) == 0
        weights.append(
            np.concatenate([w.ravel() for w in runs.load_model(tmp_path / name).get_weights()])
        )
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()


def test_half_of_the_members_keep_their_weights():
    images = np.random.default_rng(0).random((4, 28, 28, 1)).astype(np.float32)
    start, again = (build_model("lenet_l2") for _ in range(2))
    trained, ensemble = training.ensembles(start, again)
    np.testing.assert_allclose(ensemble(images), (start(images) + again(images)) / 2, atol=1e-6)
    np.testing.assert_allclose(trained(images), again(images), atol=1e-6)
    assert ensemble.name == start.name and len(networks.members_of(ensemble)) == 2
    # Trained again, the first member stays as it is, and the ensemble does not grow.
    once_more, whole = training.ensembles(ensemble, ensemble)
    np.testing.assert_allclose(once_more(images), again(images), atol=1e-6)
    np.testing.assert_allclose(whole(images), ensemble(images), atol=1e-6)
    assert len(networks.members_of(whole)) == 2


def test_a_prediction_is_correct_for_any_class_of_the_label():
    probabilities = np.full((3, 10), 0.05, np.float32)
    probabilities[:, 5], probabilities[:, 7] = 0.3, 0.3
    targets = np.zeros((3, 11), np.float32)
    targets[0, [5, 7]], targets[1, :2], targets[2, 10] = 1, (1, -1), 1
    np.testing.assert_array_equal(training.accuracy(targets, probabilities), [1, 0, 1])


@pytest.mark.slow
def test_without_enough_photographs_the_run_has_no_calibration(
    synthetic_dataset, photos, short, tmp_path, capsys
):
    first = start(tmp_path)
    command = [str(photos), "--run", str(first), "--runs-dir", str(tmp_path), "--name", "tuned"]
    assert finetune_photos.main([*command, "--epochs", "1"]) == 0
    assert "are not calibrated" in capsys.readouterr().out
    assert calibration.load(tmp_path / "tuned") is None
    # The name is rejected before the photographs are read.
    command[0] = str(tmp_path / "none")
    assert "exists already" in one_line(command, capsys)


def one_line(argv, capsys):
    assert finetune_photos.main([str(argument) for argument in argv]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "Traceback" not in err
    return err


@pytest.mark.slow
def test_invalid_input_is_rejected_in_one_line(synthetic_dataset, photos, tmp_path, capsys):
    run = start(tmp_path)
    capsys.readouterr()
    for argv, message in (
        ([tmp_path / "none", "--run", run], "cannot be read"),
        ([tmp_path, "--run", run], "contains neither"),
        ([photos, "--run", tmp_path / "none"], "not a run directory"),
    ):
        assert message in one_line(argv, capsys)
    (photos / "labels.csv").write_text("file,label\n0.png,Bag\n")
    assert "too few" in one_line([photos, "--run", run, "--runs-dir", tmp_path], capsys)
    rows = [f"nothing.png,Bag,{sender}" for sender in range(SENDERS)]
    (photos / "labels.csv").write_text("\n".join(["file,label,sender", *rows]))
    assert "no item was found" in one_line([photos, "--run", run], capsys)
    assert json.loads((run / runs.CONFIG).read_text())["model"] == "dropout_cnn"
    assert [path.name for path in tmp_path.iterdir() if (path / runs.MODEL).exists()] == ["start"]
