import json

import numpy as np
import pytest
from PIL import Image

import evaluate_model
import train_cnn
from fmnist import runs
from fmnist.inference import calibration
from fmnist.inference.classifier import load_photo_classifier
from fmnist.inference.labelled_photos import SHOE, SHOES, Labelled, classes_of
from tests.synthetic_data import OPTIONS
from tools import finetune_photos
from tools.finetuning import dataset, shoes, training

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
    assert finetune_photos.main([*command, "--epochs", "6"]) == 0
    out = capsys.readouterr().out
    assert "no item found in 1" in out and f"--run {tmp_path / 'tuned'}" in out
    run = tmp_path / "tuned"
    assert runs.is_finished(run) and len(runs.load_history(run)) == 6
    config = runs.load_config(run)
    assert config["init_from"] == str(first) and config["model"] == "dropout_cnn"
    assert calibration.load(run).photographs == 8

    classifier = load_photo_classifier(str(run), "runs")
    read = [classifier.read(photos / f"{index}.png") for index in range(10)]
    predicted = [outcome.probabilities.argmax() for outcome in classifier.classify(read)]
    assert predicted == [1, 8] * 5
    # The run can be evaluated, and be the start of another training.
    monkeypatch.setattr(evaluate_model, "TRAINING_SAMPLE", 50)
    assert evaluate_model.main([str(run)]) == 0
    command[2:3], command[-1] = [str(run)], "again"
    monkeypatch.setattr(calibration, "LEAST_PHOTOGRAPHS", 100)
    assert finetune_photos.main([*command, "--epochs", "1"]) == 0
    assert calibration.load(tmp_path / "again") == calibration.load(run)


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


def test_no_sender_is_on_both_sides():
    rng = np.random.default_rng(0)
    senders = rng.integers(50, size=1000).astype(str)
    for seed in range(5):
        chosen = dataset.held_out(senders, seed)
        assert 0.15 <= chosen.mean() <= dataset.HELD_OUT
        assert not {*senders[chosen]} & {*senders[~chosen]}
    assert (dataset.held_out(senders, 0) != dataset.held_out(senders, 1)).any()


def test_a_sender_of_most_photographs_is_trained_on():
    senders = np.array(["a"] * 90 + [f"b{index}" for index in range(10)])
    for seed in range(5):
        chosen = dataset.held_out(senders, seed)
        assert chosen.any() and not chosen[:90].any()


def test_rare_labels_count_more():
    targets = np.eye(10)[[0] * 16 + [1] * 4 + [2]]
    weights = dataset.balanced(targets)
    assert weights.mean() == pytest.approx(1)
    assert weights[[16, 20]] / weights[0] == pytest.approx([4**0.75, 16**0.75])


def test_the_loss_of_several_classes_is_that_of_their_sum():
    probabilities = np.full((3, 10), 0.05, np.float32)
    probabilities[:, 5], probabilities[:, 7] = 0.3, 0.3
    targets = np.zeros((3, 11), np.float32)
    targets[0, [5, 7]], targets[1, 5], targets[2, 10] = 1, 1, 1
    several, one, outlier = training.loss(targets, probabilities).numpy()
    smooth = -np.log(probabilities[0]).mean() * training.SMOOTHING
    assert several == pytest.approx(-0.95 * np.log(0.6) + smooth, abs=1e-4)
    assert one == pytest.approx(-0.95 * np.log(0.3) + smooth, abs=1e-4)
    assert outlier == pytest.approx(-np.log(probabilities[0]).mean(), abs=1e-4)
    np.testing.assert_array_equal(training.accuracy(targets, probabilities), [1, 1, 1])


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
    (photos / "labels.csv").write_text("file,label\nnothing.png,Bag\n")
    assert "no item was found" in one_line([photos, "--run", run], capsys)
    assert json.loads((run / runs.CONFIG).read_text())["model"] == "dropout_cnn"
    assert [path.name for path in tmp_path.iterdir() if (path / runs.MODEL).exists()] == ["start"]


def test_the_kind_of_a_shoe_is_found_by_the_look_of_the_photograph(monkeypatch):
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 256, (10, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    bits = shoes.average_hash(picture)
    monkeypatch.setattr(shoes, "known", lambda: (np.array([~bits, bits]), ["Sandal", "Sneaker"]))
    shoe = Labelled(None, classes_of(SHOE), "")
    smaller = np.asarray(Image.fromarray(picture).resize((100, 125), Image.Resampling.BILINEAR))
    for other in (picture, smaller, picture // 2 + 60):
        assert shoes.with_kind(shoe, other).classes == classes_of("Sneaker")
    assert shoes.with_kind(shoe, picture[::-1]) == shoe
    bag = Labelled(None, classes_of("Bag"), "")
    assert shoes.with_kind(bag, picture) == bag


def test_the_known_shoes_are_different_photographs_of_all_kinds():
    hashes, labels = shoes.known()
    assert set(labels) == {*SHOES} and hashes.shape == (len(labels), 256)
    different = (hashes[:, None] != hashes).sum(axis=2)
    assert (different + 256 * np.eye(len(labels)) > shoes.MOST_DIFFERENT).all()
