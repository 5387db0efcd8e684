import csv
import json
import shutil

import keras
import numpy as np
import pytest

import data
from fmnist import model_file, runs, source
from fmnist.config import TrainConfig
from fmnist.evaluation import metrics
from fmnist.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from tools.inspection import robustness, robustness_report

SMOOTHING = 0.1  # label smoothing in the config of the runs


def stripe_network(sharpness):
    """Return a linear network that finds the stripe of a synthetic image, see synthetic_data.py.

    Args:
        sharpness: factor of the logits.
    """
    kernel = np.zeros((28, 28, 10), np.float32)
    for label in range(10):
        kernel[2 * label + 2 : 2 * label + 6, :, label] = sharpness
    classifier = keras.layers.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), classifier])
    classifier.set_weights([kernel.reshape(784, 10), np.zeros(10, np.float32)])
    return model


def save_run(folder, name, model):
    """Create a finished run with this model and return its path."""
    config = TrainConfig(val_size=100, augment="none", label_smoothing=SMOOTHING)
    record = config.to_record() | {"fingerprint": source.fingerprint()}
    run = runs.create(folder, name, record)
    model_file.save(model, run / runs.MODEL)
    runs.finish(run)
    return run


@pytest.fixture
def sharp(synthetic_dataset, tmp_path):
    """A run of an overconfident network."""
    return save_run(tmp_path / "runs", "sharp", stripe_network(1.0))


@pytest.fixture
def soft(synthetic_dataset, tmp_path):
    """A run of a network with the same predictions, which is less confident."""
    return save_run(tmp_path / "runs", "soft", stripe_network(0.02))


def test_the_scores_are_those_of_the_network_on_the_corrupted_test_images(soft, monkeypatch):
    written = []
    monkeypatch.setattr(robustness, "write", lambda *arguments: written.append(arguments))
    results = robustness.measure([soft], None, soft / "out")
    run, dataset = results["runs"]["soft"], data.load(val_size=100)
    labels = dataset.test.labels

    def probabilities(images):
        return runs.load_model(soft).predict(images, verbose=0)

    temperature = metrics.fit_temperature(
        dataset.validation.labels, probabilities(dataset.validation.images), SMOOTHING
    )
    assert run["temperature"] == pytest.approx(temperature, rel=1e-3)
    conditions = [(run["clean"], dataset.test.images)]
    for name, severity in (("gaussian_noise", 5), ("shift", 3)):
        images = corrupt(dataset.test.images, name, severity)
        conditions.append((run["corrupted"][name][severity - 1], images))
    for row, images in conditions:
        calibrated = metrics.calibrated(probabilities(images), temperature, SMOOTHING)
        assert row["accuracy"] == metrics.accuracy(labels, calibrated)
        assert row["ece"] == pytest.approx(metrics.calibration_error(labels, calibrated), abs=1e-3)
        assert row["confidence"] == pytest.approx(calibrated.max(axis=1).mean(), abs=1e-3)
        low, high = metrics.accuracy_interval(row["accuracy"], len(labels))
        assert (row["low"], row["high"]) == (low, high)
    without = metrics.calibrated(probabilities(dataset.test.images), temperature)
    assert run["clean"]["ece"] != pytest.approx(
        metrics.calibration_error(labels, without), abs=1e-3
    )
    assert run["clean"]["accuracy"] == 0.95  # every twentieth label is wrong
    rows = [row for rows in run["corrupted"].values() for row in rows]
    assert len(rows) == len(CORRUPTIONS) * len(SEVERITIES)
    assert run["mean_error"] == pytest.approx(1 - np.mean([row["accuracy"] for row in rows]))
    assert run["mean_ece"] == pytest.approx(np.mean([row["ece"] for row in rows]))
    assert run["mce"] == 1 and run["augment"] == "none"
    examples = written[0][2]
    index = int(np.flatnonzero(labels == 1)[0])  # of the second corruption, shot noise
    np.testing.assert_array_equal(examples["shot_noise"][0], dataset.test.images[index])
    shown = examples["shot_noise"][4]
    np.testing.assert_array_equal(shown, corrupt(dataset.test.images, "shot_noise", 4)[index])
    assert shown.base is None  # it does not keep all corrupted images in memory


@pytest.mark.slow
def test_results_of_two_runs_are_written_as_json_csv_figures_and_report(sharp, soft, tmp_path):
    out = tmp_path / "out"
    results = robustness.measure([sharp, soft], None, out)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "figures/robustness_accuracy.png",
        "figures/robustness_confidence.png",
        "figures/robustness_errors.png",
        "figures/robustness_examples.png",
        "robustness.html",
        "robustness.json",
        "tables/robustness.csv",
    ]
    assert json.loads((out / robustness_report.RESULTS).read_text()) == json.loads(
        json.dumps(results)
    )
    with open(out / robustness_report.TABLE, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == robustness_report.COLUMNS
    assert len(rows) == 2 * (1 + len(CORRUPTIONS) * len(SEVERITIES))
    assert rows[0] | {"run": "sharp", "corruption": "none", "severity": "0"} == rows[0]
    last = results["runs"]["soft"]["corrupted"]["occlusion"][-1]
    assert rows[-1] == {"run": "soft", "corruption": "occlusion", "severity": "5"} | {
        key: str(last[key]) for key in robustness_report.COLUMNS[3:]
    }
    page = (out / robustness_report.REPORT).read_text()
    assert page.count("data:image/png;base64,") == 4 and "<td>sharp</td>" in page
    assert f"{100 * results['runs']['soft']['mean_error']:.1f}" in page
    # Both networks predict the same classes, so that their errors are equal.
    assert [run["mce"] for run in results["runs"].values()] == [1, pytest.approx(1)]
    text = robustness_report.text(results)
    # Head and two runs; head, original images, corruptions and their mean.
    assert "sharp" in text and len(text.split("\n")) == 3 + 1 + 2 + len(CORRUPTIONS) + 1


def test_the_mean_corruption_error_weights_all_corruptions_equally():
    reference = {"shift": 0.5, "jpeg": 0.1}
    assert robustness.mean_corruption_error(reference, reference) == 1
    # (0.25 / 0.5 + 0.2 / 0.1) / 2
    assert robustness.mean_corruption_error({"shift": 0.25, "jpeg": 0.2}, reference) == 1.25
    assert robustness.mean_corruption_error(reference, {"shift": 0.5, "jpeg": 0}) is None


def test_the_table_of_runs_shows_a_missing_mean_corruption_error_as_a_dash():
    clean = {"accuracy": 0.9, "low": 0.89, "high": 0.91, "ece": 0.012}
    run = {"augment": "flip", "mean_error": 0.4, "mce": None, "mean_ece": 0.1, "clean": clean}
    head, rows = robustness_report.run_table({"runs": {"one": run, "two": run | {"mce": 0.853}}})
    assert rows[0] == ["one", "flip", "90.00 (89.00 to 91.00)", "40.0", "–", "1.2", "10.0"]
    assert rows[1][head.index("mCE, %")] == "85.3"


def test_labels_are_the_names_of_the_directories_with_parents_if_these_are_equal(
    tmp_path, monkeypatch
):
    first, second, other = (tmp_path / name for name in ("a/run", "b/run", "b/other"))
    for folder in (first, second, other):
        folder.mkdir(parents=True)
    assert robustness.labels_of([first, other]) == {"run": first, "other": other}
    assert robustness.labels_of([first, second, other]) == {
        "a/run": first,
        "b/run": second,
        "b/other": other,
    }
    assert list(robustness.labels_of([first, tmp_path / "a/../a/run"])) == ["run"]
    monkeypatch.chdir(first)
    assert list(robustness.labels_of(["."])) == ["run"]


def test_a_run_that_was_trained_on_other_data_is_an_error(sharp, soft, tmp_path):
    config = json.loads((soft / runs.CONFIG).read_text())
    (soft / runs.CONFIG).write_text(json.dumps(config | {"fingerprint": "0" * 64}))
    with pytest.raises(runs.RunError, match="soft was trained on other data"):
        robustness.measure([sharp, soft], None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_without_weights_is_an_error(sharp, synthetic_dataset, tmp_path):
    unfinished = shutil.copytree(sharp, tmp_path / "runs/unfinished")
    (unfinished / runs.CHECKPOINT).mkdir()
    (unfinished / runs.MODEL).unlink()
    with pytest.raises(runs.RunError, match="unfinished/model.keras is missing"):
        robustness.measure([sharp, unfinished], None, tmp_path / "out")
    with pytest.raises(runs.RunError, match="is not a run directory"):
        robustness.measure([tmp_path / "nothing"], None, tmp_path / "out")


def test_an_error_while_writing_leaves_earlier_results(soft, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / robustness_report.RESULTS).write_text("earlier")
    monkeypatch.setattr(robustness_report.robustness_figures, "draw", lambda *arguments: {})
    monkeypatch.setattr(robustness_report, "score_rows", lambda results: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        robustness.measure([soft], None, out)
    assert (out / robustness_report.RESULTS).read_text() == "earlier"
    assert [path.name for path in out.iterdir()] == [robustness_report.RESULTS]
