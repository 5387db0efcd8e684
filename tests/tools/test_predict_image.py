import base64
import io
import json
import os
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
from tools.prediction import pictures

BEST = ROOT / "pretrained/best"


@pytest.fixture
def run(synthetic_dataset, no_figures, tmp_path, monkeypatch):
    """A copy of an evaluated run for every test; it is trained only once."""
    monkeypatch.setattr(evaluate_model, "TRAINING_SAMPLE", 50)  # no test uses its scores
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
def for_photos():
    """The pretrained networks."""
    return classifiers.load_photo_classifier(None, "no runs")


@pytest.fixture
def folder(tmp_path):
    """Ten pictures, one synthetic image per class, and two corrupt ones."""
    images, labels, *_ = synthetic_data.make_arrays()
    folder = tmp_path / "photos/inner"
    folder.mkdir(parents=True)
    for number in range(10):
        Image.fromarray(images[labels == number][0]).save(folder / f"{number}.png")
    (folder / "corrupt.jpg").write_bytes(b"not a picture")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:100])
    (folder / "notes.txt").write_text("not a picture")
    (folder / "photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    # Read: other suffixes, and none. Left out: resource files of macOS and hidden folders.
    (folder / "9.png").rename(folder / "9")
    (folder / "8.png").rename(folder / "8.jfif")
    (folder / "._7.png").write_bytes(b"resource")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails/7.png").write_bytes((folder / "7.png").read_bytes())
    os.mkfifo(folder / "pipe.png")  # would block
    return folder.parent


@pytest.mark.slow
def test_json_has_the_predictions_of_a_folder_and_stderr_names_the_corrupt_files(
    run, folder, capsys
):
    assert predict_image.main([str(folder), "--run", str(run), "--json"]) == 0
    out, err = capsys.readouterr()
    predictions = json.loads(out)
    assert [prediction["file"] for prediction in predictions] == [
        str(folder / "inner" / name)
        for name in (*(f"{number}.png" for number in range(8)), "8.jfif", "9")
    ]
    for prediction in predictions:
        assert list(prediction) == [
            "file", "label", "confidence", "top_k", "uncertain", "warnings", "outline",
            "probabilities", "model_input",
        ]  # fmt: skip
        assert prediction["uncertain"] is bool(prediction["warnings"])
        assert tuple(prediction["probabilities"]) == source.CLASS_NAMES
        top_k = {row["label"]: row["confidence"] for row in prediction["top_k"]}
        confidences = sorted(prediction["probabilities"].values(), reverse=True)
        assert list(top_k.values()) == confidences[:3]
        assert top_k.items() <= prediction["probabilities"].items()
        assert (prediction["label"], prediction["confidence"]) == next(iter(top_k.items()))
        png = base64.b64decode(prediction["model_input"].removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(png)).size == (28, 28)
    for name in ("corrupt.jpg", "cut.png", "notes.txt", "photo.HEIC"):
        assert err.count(f"skipped {folder}/inner/{name}: ") == 1
    assert err.count("skipped") == 4


@pytest.mark.slow
def test_predictions_are_those_of_the_evaluation(run):
    """With the same test-time augmentation and calibration."""
    classifier, dataset = classifiers.load_classifier(run), data.load(val_size=100)
    saved = np.load(run / "predictions.npz")["probabilities"]
    np.testing.assert_allclose(classifier.probabilities(dataset.test.images), saved, atol=1e-5)
    photos = [photo.Photo(None, image[None], None, []) for image in dataset.test.images]
    outcomes = classifier.classify_images(photos)
    uncertain = json.loads((run / "metrics.json").read_text())["uncertain"]
    assert np.mean([out.uncertain for out in outcomes]) == pytest.approx(uncertain, abs=1e-9)


@pytest.mark.slow
def test_without_an_item_there_is_no_label(run, tmp_path, capsys, monkeypatch):
    Image.fromarray(np.full((100, 100, 3), 130, np.uint8)).save(tmp_path / "grey.png")
    command = [str(tmp_path / "grey.png"), "--run", str(run), "--figure"]
    command += ["--output-dir", str(tmp_path / "figures")]
    assert predict_image.main(command) == 0
    assert "no item; uncertain: no item was found; photograph one" in capsys.readouterr().out
    assert predict_image.main([*command, "--json"]) == 0
    [prediction] = json.loads(capsys.readouterr().out)
    assert prediction["label"] is prediction["confidence"] is prediction["model_input"] is None
    assert prediction["uncertain"] and prediction["top_k"] == []


@pytest.mark.slow
def test_the_figures_contain_every_picture(run, folder, tmp_path, capsys):
    out = tmp_path / "figures"
    out.mkdir()
    (out / "predictions-3.png").write_bytes(b"from an earlier call with more pictures")
    assert (
        predict_image.main([str(folder), "--run", str(run), "--figure", "--output-dir", str(out)])
        == 0
    )
    assert sorted(path.name for path in out.iterdir()) == ["predictions-1.png", "predictions-2.png"]
    for path in out.iterdir():
        assert np.ptp(matplotlib.image.imread(path)) > 0
    assert str(out / "predictions-1.png") in capsys.readouterr().out


def test_files_in_a_folder_without_permission_are_found(tmp_path, monkeypatch):
    (tmp_path / "picture.png").touch()
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed/picture.png").touch()
    status = Path.stat

    def stat(path, **options):
        if path.parent.name == "closed":
            raise PermissionError
        return status(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    found = pictures.find([str(tmp_path)])
    assert found == [tmp_path / "closed/picture.png", tmp_path / "picture.png"]


@pytest.mark.parametrize("length", [1, 23, 24, 25, 200])
def test_a_long_file_name_is_shortened_in_the_middle(length):
    name = "".join(chr(ord("a") + index % 26) for index in range(length))
    title = pictures.shortened(name)
    assert len(title) == min(length, 24) and (title[0], title[-1]) == (name[0], name[-1])


@pytest.mark.slow
def test_a_file_name_is_not_markup_and_a_failing_figure_loses_no_prediction(
    run, folder, tmp_path, capsys, monkeypatch
):
    name = "$5_$10 [red] <b>.png"
    (folder / "inner/1.png").rename(tmp_path / name)
    command = [str(tmp_path / name), "--run", str(run), "--figure"]
    command += ["--output-dir", str(tmp_path / "figures")]
    assert predict_image.main(command) == 0
    assert name in capsys.readouterr().out
    drawn = []

    def fail(photos, probabilities, titles, names):
        drawn.extend(titles)
        raise ValueError("cannot be drawn")

    monkeypatch.setattr(pictures, "photographs", fail)
    with pytest.raises(ValueError, match="cannot be drawn"):
        predict_image.main(command)
    assert drawn[0].startswith(name) and name in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_without_evaluation_predicts_and_names_the_missing_command(run, folder, capsys):
    for name in (runs.METRICS, runs.NOVELTY):
        (run / name).unlink()
    assert predict_image.main([str(folder / "inner/1.png"), "--run", str(run), "--json"]) == 0
    out, err = capsys.readouterr()
    assert f"evaluate_model.py {run}" in err and json.loads(out)[0]["uncertain"] is False


@pytest.mark.slow
def test_an_evaluation_of_an_earlier_epoch_is_ignored(run):
    evaluated = json.loads((run / runs.METRICS).read_text())
    (run / runs.METRICS).write_text(json.dumps({**evaluated, "epochs": evaluated["epochs"] - 1}))
    assert classifiers.load_evaluation(run) is None


@pytest.mark.slow
def test_older_metrics_are_accepted(run):
    evaluated = json.loads((run / runs.METRICS).read_text())
    del evaluated["test_time_shifts"], evaluated["label_smoothing"]
    evaluated["unsure"] = evaluated.pop("uncertain")
    (run / runs.METRICS).write_text(json.dumps(evaluated))
    classifier = classifiers.load_classifier(run)
    assert classifier.flips and not classifier.shifts
    assert classifiers.load_evaluation(run)["uncertain"] == evaluated["unsure"]


def test_the_default_is_the_newest_run_else_the_pretrained_one(run, tmp_path, monkeypatch):
    assert runs.find_run(None, run.parent) == run
    assert runs.find_run("other", run.parent) == Path("other")
    assert runs.find_run(None, tmp_path / "none") == BEST
    monkeypatch.setattr(runs, "BEST", tmp_path / "nothing")
    with pytest.raises(runs.RunError, match="python train_cnn.py"):
        runs.find_run(None, tmp_path / "none")


def test_photographs_have_a_network_of_their_own_unless_a_run_is_named(run, tmp_path):
    default = classifiers.load_photo_classifier(None, run.parent)
    assert (default.photographs.run, default.images.run) == (runs.FOR_PHOTOS, run)
    named = classifiers.load_photo_classifier(str(run), "runs")
    assert named.photographs is named.images and named.images.run == run
    description = default.description()
    for text in ("pretrained/photo for photographs", f"{run} for 28 × 28 images", "--run"):
        assert text in description


def one_line(argv, capsys, code=1):
    assert predict_image.main([str(argument) for argument in argv]) == code
    out, err = capsys.readouterr()
    assert out.count("\n") <= 1 and "Traceback" not in err
    return err.splitlines()[-1]


@pytest.mark.slow
def test_invalid_input_is_rejected_in_one_line(run, folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "contains no" in one_line([tmp_path / "empty", "--run", run], capsys)
    assert "not a run directory" in one_line([folder, "--run", tmp_path / "empty"], capsys)
    assert "none of the pictures can be read" in one_line(
        [folder / "inner/corrupt.jpg", tmp_path / "none.png", "--run", run], capsys
    )
    for name, content in (
        (runs.METRICS, b"{"),
        (runs.METRICS, b"[]"),
        (runs.METRICS, b"null"),
        (runs.METRICS, b"[" * 100_000),
        (runs.NOVELTY, b"PK"),
        (runs.NOVELTY, b""),
    ):
        good = (run / name).read_bytes()
        (run / name).write_bytes(content)
        message = one_line([folder, "--run", run], capsys)
        assert str(run / name) in message and f"evaluate_model.py {run}" in message
        assert name == runs.METRICS or "--test-time-flips --test-time-shifts" in message
        (run / name).write_bytes(good)
    evaluation = json.loads((run / runs.METRICS).read_text())
    for key, value in (("temperature", -1), ("test_time_flips", "no"), ("label_smoothing", 1)):
        (run / runs.METRICS).write_text(json.dumps(evaluation | {key: value}))
        message = one_line([folder, "--run", run], capsys)
        assert str(run / runs.METRICS) in message and key in message


@pytest.mark.slow
def test_a_corrupt_novelty_file_is_rejected(run, folder, capsys):
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
    content[content.find(b"PK\1\2") + 10] ^= 0xFF  # the compression method of the first array
    (run / runs.NOVELTY).write_bytes(content)
    assert "evaluate_model.py" in one_line([folder, "--run", run], capsys)
    np.savez(run / runs.NOVELTY, mean=arrays["mean"])
    assert "evaluate_model.py" in one_line([folder, "--run", run], capsys)


@pytest.mark.slow
def test_rendered_photographs_keep_most_of_the_accuracy(for_photos, real_data):
    """A small part of what benchmarks/photographs.py measures."""
    test = data.load(real_data).test
    images, labels = test.images[:500], test.labels[:500]
    files = [
        photographs.photograph(image[..., 0], np.random.default_rng(number))
        for number, image in enumerate(images)
    ]
    photos = [for_photos.read(photographs.io.BytesIO(file)) for file in files]
    outcomes = for_photos.classify(photos)
    predicted = [outcome.probabilities.argmax() for outcome in outcomes]
    image_accuracy = (for_photos.photographs.probabilities(images).argmax(1) == labels).mean()
    assert np.mean(predicted == labels) >= 0.97 * image_accuracy
    if np.mean([outcome.uncertain for outcome in outcomes]) > 0.05:
        pytest.xfail("most outliers are uncertain, and so are some photographs")


@pytest.mark.parametrize("kind", ["drawings", "noise", "digits", "textures"])
def test_most_out_of_distribution_pictures_are_uncertain(for_photos, kind):
    photos = photographs.ood_photos(kind, 60, margin=True, classifier=for_photos)
    assert np.mean([outcome.uncertain for outcome in for_photos.classify(photos)]) >= 0.8
