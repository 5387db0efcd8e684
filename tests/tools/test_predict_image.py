import json
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from PIL import Image

import data
import evaluate_model
import train_cnn
from benchmarks import photographs
from fmnist import runs, source
from fmnist.inference import classifier as classifiers
from fmnist.inference import photo
from tests import ROOT, synthetic_data
from tools import predict_image

BEST = ROOT / "pretrained/best"


@pytest.fixture
def run(made_data, no_figures, tmp_path, monkeypatch):
    """An evaluated run of its own for every test, trained once."""
    monkeypatch.setattr(evaluate_model, "TRAINING_SAMPLE", 50)  # whose scores no test looks at
    keep = tmp_path.parent / "predicting"
    if not keep.exists():
        assert (
            train_cnn.main(
                ["--val-size", "100", "--epochs", "3", "--runs-dir", str(keep), "--name", "run"]
            )
            == 0
        )
        assert (
            evaluate_model.main([str(keep / "run"), "--test-time-flips", "--test-time-shifts"]) == 0
        )
    return shutil.copytree(keep / "run", tmp_path / "runs/run")


@pytest.fixture(scope="module")
def best():
    """The classifier that comes with the project."""
    return classifiers.load_classifier(BEST)


@pytest.fixture
def folder(tmp_path):
    """Ten pictures, of a made image of every class, and two that are broken."""
    images, labels, *_ = synthetic_data.made_arrays()
    folder = tmp_path / "photos/inner"
    folder.mkdir(parents=True)
    for number in range(10):
        Image.fromarray(images[labels == number][0]).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:100])
    (folder / "notes.txt").write_text("no picture, and not called one")
    return folder.parent


@pytest.mark.slow
def test_a_folder_is_answered_as_json_and_broken_files_are_named(run, folder, capsys):
    assert predict_image.main([str(folder), "--run", str(run), "--json"]) == 0
    out, err = capsys.readouterr()
    answers = json.loads(out)
    assert [answer["file"] for answer in answers] == [
        str(folder / f"inner/{number}.png") for number in range(10)
    ]
    for answer in answers:
        assert set(answer) == {"file", "label", "confidence", "guesses", "unsure", "doubts"}
        assert answer["label"] in source.CLASS_NAMES and answer["unsure"] is bool(answer["doubts"])
        confidences = [guess["confidence"] for guess in answer["guesses"]]
        assert len(confidences) == 3 and confidences == sorted(confidences, reverse=True)
        assert (answer["label"], answer["confidence"]) == tuple(answer["guesses"][0].values())
    for name in ("broken.jpg", "cut.png"):
        assert err.count(name) == 1
    assert "notes.txt" not in err


@pytest.mark.slow
def test_it_answers_as_the_evaluation_did(run):
    """With its flips, its shifts and its temperature, to the digits that predictions.npz has."""
    classifier, dataset = classifiers.load_classifier(run), data.load(val_size=100)
    saved = np.load(run / "predictions.npz")["probabilities"]
    np.testing.assert_allclose(classifier.probabilities(dataset.test.images), saved, atol=1e-5)
    photos = [photo.Photo(None, image, None, []) for image in dataset.test.images]
    _, doubts = classifier.classify(photos)
    unsure = json.loads((run / "metrics.json").read_text())["unsure"]
    assert np.mean([bool(each) for each in doubts]) == pytest.approx(unsure, abs=1e-9)


@pytest.mark.slow
def test_doubts_of_the_photo_make_it_unsure(run, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)).save(
        tmp_path / "noise.png"
    )
    assert predict_image.main([str(tmp_path / "noise.png"), "--run", str(run)]) == 0
    assert "unsure: the ground is cluttered" in capsys.readouterr().out


@pytest.mark.slow
def test_figures_show_every_picture(run, folder, tmp_path, capsys):
    out = tmp_path / "figures"
    out.mkdir()
    (out / "predictions-3.png").write_bytes(b"of an earlier call, with more pictures")
    assert (
        predict_image.main([str(folder), "--run", str(run), "--figure", "--output-dir", str(out)])
        == 0
    )
    assert sorted(path.name for path in out.iterdir()) == ["predictions-1.png", "predictions-2.png"]
    for path in out.iterdir():
        assert np.ptp(matplotlib.image.imread(path)) > 0
    assert str(out / "predictions-1.png") in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_was_not_evaluated_answers_and_says_what_it_lacks(run, folder, capsys):
    for name in (runs.METRICS, runs.NOVELTY):
        (run / name).unlink()
    assert predict_image.main([str(folder / "inner/1.png"), "--run", str(run), "--json"]) == 0
    out, err = capsys.readouterr()
    assert f"evaluate_model.py {run}" in err and json.loads(out)[0]["unsure"] is False


@pytest.mark.slow
def test_an_evaluation_of_an_earlier_epoch_does_not_count(run):
    evaluated = json.loads((run / runs.METRICS).read_text())
    (run / runs.METRICS).write_text(json.dumps({**evaluated, "epochs": evaluated["epochs"] - 1}))
    assert classifiers.load_evaluation(run) is None


@pytest.mark.slow
def test_an_evaluation_that_knew_no_shifts_is_one_without_them(run):
    evaluated = json.loads((run / runs.METRICS).read_text())
    del evaluated["test_time_shifts"]
    (run / runs.METRICS).write_text(json.dumps(evaluated))
    classifier = classifiers.load_classifier(run)
    assert classifier.flips and not classifier.shifts


def test_the_newest_run_is_taken_else_the_one_that_comes_with_the_project(
    run, tmp_path, monkeypatch
):
    assert runs.find_run(None, run.parent) == run
    assert runs.find_run("other", run.parent) == Path("other")
    assert runs.find_run(None, tmp_path / "none") == BEST
    monkeypatch.setattr(runs, "PRETRAINED", tmp_path / "nothing")
    with pytest.raises(runs.RunError, match="python train_cnn.py"):
        runs.find_run(None, tmp_path / "none")


def one_line(argv, capsys, code=1):
    assert predict_image.main([str(each) for each in argv]) == code
    out, err = capsys.readouterr()
    assert out.count("\n") <= 1 and "Traceback" not in err
    return err.splitlines()[-1]


@pytest.mark.slow
def test_what_cannot_be_is_refused_in_a_line(run, folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "holds no" in one_line([tmp_path / "empty", "--run", run], capsys)
    assert "not a run directory" in one_line([folder, "--run", tmp_path / "empty"], capsys)
    assert "no picture could be read" in one_line(
        [folder / "inner/broken.jpg", tmp_path / "none.png", "--run", run], capsys
    )
    for name, content in (
        (runs.METRICS, b"{"),
        (runs.METRICS, b'{"temperature": -1}'),
        (runs.METRICS, b'{"temperature": 1, "test_time_flips": "no"}'),
        (runs.METRICS, b"[]"),
        (runs.METRICS, b"null"),
        (runs.METRICS, b"[" * 100_000),
        (runs.NOVELTY, b"PK"),
        (runs.NOVELTY, b""),
    ):
        good = (run / name).read_bytes()
        (run / name).write_bytes(content)
        said = one_line([folder, "--run", run], capsys)
        assert str(run / name) in said and f"evaluate_model.py {run}" in said
        assert name == runs.METRICS or "--test-time-flips --test-time-shifts" in said
        (run / name).write_bytes(good)


@pytest.mark.slow
def test_novelty_of_other_shapes_is_refused(run, folder, capsys):
    with np.load(run / runs.NOVELTY) as saved:
        arrays = dict(saved)
    for change in (
        {"mean": arrays["mean"][:10]},
        {"centres": arrays["centres"][:, :5]},
        {"limits": arrays["limits"][:2]},
        {"components": np.full_like(arrays["components"], np.nan)},
    ):
        np.savez(run / runs.NOVELTY, **arrays | change)
        assert "evaluate_model.py" in one_line([folder, "--run", run], capsys)
    np.savez(run / runs.NOVELTY, **arrays)
    content = bytearray((run / runs.NOVELTY).read_bytes())
    content[content.find(b"PK\1\2") + 10] ^= 0xFF  # how the first array is compressed
    (run / runs.NOVELTY).write_bytes(content)
    assert "evaluate_model.py" in one_line([folder, "--run", run], capsys)
    np.savez(run / runs.NOVELTY, mean=arrays["mean"])
    assert "evaluate_model.py" in one_line([folder, "--run", run], capsys)


@pytest.mark.slow
def test_photographs_of_test_images_keep_nearly_all_of_the_accuracy(best, real_data):
    """A small part of what benchmarks/photographs.py measures."""
    test = data.load(real_data).test
    images, labels = test.images[:500], test.labels[:500]
    files = [
        photographs.photograph(image[..., 0], np.random.default_rng(number))
        for number, image in enumerate(images)
    ]
    photos = [photo.read(photographs.io.BytesIO(file)) for file in files]
    probabilities, doubts = best.classify(photos)
    plain = best.probabilities(images)
    accuracy, of_images = (
        (each.argmax(axis=1) == labels).mean() for each in (probabilities, plain)
    )
    assert accuracy >= 0.97 * of_images
    assert np.mean([bool(each) for each in doubts]) <= 0.05


@pytest.mark.parametrize("kind", photographs.OTHERS)
def test_most_pictures_of_other_things_are_called_unsure(best, kind):
    _, doubts = best.classify(photographs.other_photos(kind, 60, framed=True))
    assert np.mean([bool(each) for each in doubts]) >= 0.8
