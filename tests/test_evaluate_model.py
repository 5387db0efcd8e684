import json
import re
import shutil
import signal

import keras
import matplotlib.image
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

import data
import evaluate_model
import train_cnn
from fmnist import html_report, runs, source
from fmnist.evaluation import metrics, ood, tta
from fmnist.inference import classifier
from tests import synthetic_data

FIGURES = (
    "calibration",
    "confidence_by_class",
    "confused_pairs",
    "confusion_matrix",
    "correct_and_wrong",
    "curves",
    "mistakes",
    "predictions",
    "probabilities",
    "roc_and_precision_recall",
)


@pytest.fixture
def run(synthetic_dataset, tmp_path):
    """Return a copy of a run that is trained once for all tests."""
    runs_dir = tmp_path.parent / "trained"
    if not runs_dir.exists():
        options = ["--val-size", "100", "--epochs", "2", "--runs-dir", str(runs_dir)]
        assert train_cnn.main([*synthetic_data.OPTIONS, *options, "--name", "run"]) == 0
    return shutil.copytree(runs_dir / "run", tmp_path / "runs/run")


def test_the_metrics_equal_those_of_keras_evaluate(run, no_figures, capsys):
    assert evaluate_model.main(["--runs-dir", str(run.parent)]) == 0
    results = json.loads((run / "metrics.json").read_text())
    saved = np.load(run / "predictions.npz")
    dataset = data.load(val_size=100)
    np.testing.assert_array_equal(saved["labels"], dataset.test.labels)
    assert saved["probabilities"].shape == (synthetic_data.TEST, 10)

    loss, accuracy = runs.load_model(run).evaluate(data.batches(dataset.test, 50), verbose=0)
    assert results["accuracy"] == pytest.approx(accuracy)
    assert results["loss"] == pytest.approx(loss, rel=1e-4)
    low, high = results["accuracy_interval"]
    assert low < results["accuracy"] <= high + 1e-9
    loss, accuracy = runs.load_model(run).evaluate(data.batches(dataset.train, 50), verbose=0)
    train = results["train"]
    assert (train["accuracy"], train["images"]) == (
        pytest.approx(accuracy),
        synthetic_data.TRAIN - 100,
    )
    assert train["loss"] == pytest.approx(loss, rel=1e-4)
    assert results["gap"]["accuracy"] == pytest.approx(
        results["train"]["accuracy"] - results["validation"]["accuracy"]
    )
    assert np.trace(results["confusion_matrix"]) == round(results["accuracy"] * synthetic_data.TEST)
    assert set(source.CLASS_NAMES) < set(results["per_class"])
    assert f"Test accuracy {results['accuracy']:.2%}" in capsys.readouterr().out


def test_the_areas_and_confused_pairs_are_those_of_the_saved_probabilities(run, no_figures, capsys):
    assert evaluate_model.main([str(run)]) == 0
    results = json.loads((run / "metrics.json").read_text())
    saved = np.load(run / "predictions.npz")
    labels, probabilities = saved["labels"], saved["probabilities"]
    bag = results["per_class"]["Bag"]
    index = source.CLASS_NAMES.index("Bag")
    assert bag["roc_auc"] == pytest.approx(roc_auc_score(labels == index, probabilities[:, index]))
    assert bag["average_precision"] == pytest.approx(
        average_precision_score(labels == index, probabilities[:, index])
    )
    wrong = int((probabilities.argmax(axis=1) != labels).sum())
    pairs = results["confused_pairs"]
    assert 0 < len(pairs) <= 10 and sum(pair["mistakes"] for pair in pairs) <= wrong
    assert pairs[0]["fraction_of_mistakes"] == pytest.approx(pairs[0]["mistakes"] / wrong)
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("Bag "))
    assert f"{bag['roc_auc']:.4f}" in row and len(row) <= 80


def test_saved_probabilities_are_calibrated_on_the_validation_set(run, no_figures, capsys):
    assert evaluate_model.main([str(run)]) == 0
    results, saved = (
        json.loads((run / "metrics.json").read_text()),
        np.load(run / "predictions.npz"),
    )
    dataset = data.load(val_size=100)
    validation, test = (
        runs.load_model(run).predict(part.images, verbose=0)
        for part in (dataset.validation, dataset.test)
    )
    assert (
        saved["temperature"]
        == results["temperature"]
        == pytest.approx(metrics.fit_temperature(dataset.validation.labels, validation), rel=1e-3)
    )
    assert results["temperature"] != pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(
        saved["probabilities"], metrics.calibrated(test, saved["temperature"]), atol=1e-5
    )
    labels = saved["labels"]
    for key, probabilities in (("", test), ("calibrated_", saved["probabilities"])):
        assert results[f"{key}loss"] == pytest.approx(
            metrics.cross_entropy(labels, probabilities), rel=1e-3
        )
        assert results[f"{key}ece"] == pytest.approx(
            metrics.calibration_error(labels, probabilities), abs=1e-3
        )
    assert results["validation"]["calibrated_loss"] < results["validation"]["loss"]
    assert f"temperature {results['temperature']:.2f}" in capsys.readouterr().out


def test_the_calibration_undoes_the_label_smoothing_of_the_run(run, no_figures):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"label_smoothing": 0.2}))
    results = evaluate_model.evaluate(run)
    dataset, model = data.load(val_size=100), runs.load_model(run)
    validation, output = (
        model.predict(part.images, verbose=0) for part in (dataset.validation, dataset.test)
    )
    temperature = metrics.fit_temperature(dataset.validation.labels, validation, 0.2)
    assert results["temperature"] == pytest.approx(temperature, rel=1e-3)
    expected = metrics.calibrated(output, results["temperature"], 0.2)
    saved = np.load(run / "predictions.npz")
    np.testing.assert_allclose(saved["probabilities"], expected, atol=1e-5)
    assert saved["label_smoothing"] == results["label_smoothing"] == 0.2
    without = metrics.calibrated(output, results["temperature"])
    assert np.abs(without - expected).max() > 0.01
    certain = metrics.calibrated(validation, results["temperature"], 0.2)
    limits = ood.fit(*dataset.train, dataset.validation.images, certain).limits
    np.testing.assert_allclose(np.load(run / "novelty.npz")["limits"], limits, rtol=1e-4)
    labels = dataset.test.labels
    assert results["calibrated_loss"] == pytest.approx(
        metrics.cross_entropy(labels, expected), rel=1e-3
    )
    assert results["calibrated_ece"] == pytest.approx(
        metrics.calibration_error(labels, expected), abs=1e-3
    )
    # What classifies pictures later calibrates in the same way.
    loaded = classifier.load_classifier(run)
    np.testing.assert_allclose(loaded.probabilities(dataset.test.images), expected, atol=1e-4)
    # The temperature of an older evaluation was fitted without undoing label smoothing.
    del results["label_smoothing"]
    (run / "metrics.json").write_text(json.dumps(results))
    loaded = classifier.load_classifier(run)
    np.testing.assert_allclose(loaded.probabilities(dataset.test.images), without, atol=1e-4)


@pytest.mark.slow
def test_test_time_flips_average_the_output_for_image_and_mirror_image(
    run, no_figures, tmp_path, capsys
):
    plain = evaluate_model.evaluate(run, output_dir=tmp_path / "plain")
    assert evaluate_model.main([str(run), "--test-time-flips"]) == 0
    results, saved = (
        json.loads((run / "metrics.json").read_text()),
        np.load(run / "predictions.npz"),
    )
    test = data.load(val_size=100).test
    outputs = [
        runs.load_model(run).predict(images, verbose=0)
        for images in (test.images, test.images[:, :, ::-1])
    ]
    mean = np.mean(outputs, axis=0)
    np.testing.assert_allclose(
        saved["probabilities"], metrics.calibrated(mean, saved["temperature"]), atol=1e-5
    )
    assert (
        results["accuracy"] == metrics.accuracy(test.labels, mean)
        and results["loss"] != plain["loss"]
    )
    assert results["test_time_flips"] and not plain["test_time_flips"]
    assert results["validation"]["without_flips"] == plain["validation"]
    assert results["without_flips"] == {key: plain[key] for key in plain["validation"]}
    assert f"without test-time flips {plain['accuracy']:.2%}" in capsys.readouterr().out


@pytest.mark.slow
def test_test_time_shifts_average_the_output_for_all_views(run, no_figures, tmp_path, capsys):
    flips = evaluate_model.evaluate(run, output_dir=tmp_path / "flips", test_time_flips=True)
    shifts = evaluate_model.evaluate(run, output_dir=tmp_path / "shifts", test_time_shifts=True)
    assert evaluate_model.main([str(run), "--test-time-flips", "--test-time-shifts"]) == 0
    results, saved = (
        json.loads((run / "metrics.json").read_text()),
        np.load(run / "predictions.npz"),
    )
    test, network = data.load(val_size=100).test, runs.load_model(run)
    for evaluation, options in ((results, (True, True)), (shifts, (False, True))):
        views = np.stack(list(tta.views(test.images, *options)))
        mean = (
            network.predict(np.concatenate(views), verbose=0)
            .reshape(*views.shape[:2], -1)
            .mean(axis=0)
        )
        assert evaluation["accuracy"] == metrics.accuracy(test.labels, mean)
        assert evaluation["loss"] == pytest.approx(
            metrics.cross_entropy(test.labels, mean), rel=1e-4
        )
    assert results["test_time_shifts"] and not flips["test_time_shifts"]
    assert len({evaluation["loss"] for evaluation in (results, shifts, flips)}) == 3
    assert results["without_shifts"] == {key: flips[key] for key in results["without_shifts"]}
    assert (
        results["without_shifts"]["without_flips"]
        == flips["without_flips"]
        == shifts["without_shifts"]
    )
    assert saved["temperature"] == results["temperature"]
    out = capsys.readouterr().out
    assert (
        f"without test-time shifts {flips['accuracy']:.2%}; "
        f"without test-time shifts and flips {flips['without_flips']['accuracy']:.2%}"
    ) in out


@pytest.mark.slow
def test_the_report_contains_all_figures(run):
    assert evaluate_model.main([str(run)]) == 0
    assert sorted(path.stem for path in (run / "figures").iterdir()) == list(FIGURES)
    for path in (run / "figures").iterdir():
        assert matplotlib.image.imread(path)[..., :3].std() > 0.05
    page = (run / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(FIGURES)
    assert not re.search(r"(src|href)=.?(http|/|figures)", page)
    assert "dropout_cnn" in page and "Ankle boot" in page


@pytest.mark.slow
def test_the_loss_is_the_cross_entropy(synthetic_dataset, no_figures, tmp_path):
    """The loss contains neither L2 regularisation nor label smoothing."""
    assert (
        train_cnn.main(
            [
                "--val-size",
                "100",
                "--epochs",
                "1",
                "--l2",
                "0.1",
                "--label-smoothing",
                "0.2",
                "--runs-dir",
                str(tmp_path),
                "--name",
                "run",
            ]
        )
        == 0
    )
    results = evaluate_model.evaluate(tmp_path / "run")
    test = data.load(val_size=100).test
    probabilities = runs.load_model(tmp_path / "run").predict(test.images, verbose=0)
    assert results["loss"] == pytest.approx(log_loss(test.labels, probabilities), rel=1e-4)


@pytest.mark.slow
def test_results_in_another_folder_are_bit_identical(run, tmp_path):
    before = sorted(run.iterdir())
    for folder in ("a/b", "c"):
        assert evaluate_model.main([str(run), "--output-dir", str(tmp_path / folder)]) == 0
    assert sorted(run.iterdir()) == before
    for name in ("metrics.json", "report.html", "figures/curves.png"):
        assert (tmp_path / "a/b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()
    first, second = (np.load(tmp_path / folder / "predictions.npz") for folder in ("a/b", "c"))
    assert first["probabilities"].tobytes() == second["probabilities"].tobytes()


@pytest.mark.parametrize("signal_number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_evaluation_keeps_the_previous_results(
    run, no_figures, capsys, monkeypatch, signal_number, code
):
    for name in ("metrics.json", "report.html"):
        (run / name).write_text("previous")
    before = {path: path.read_bytes() for path in run.iterdir()}
    monkeypatch.setattr(html_report, "page", lambda *_: signal.raise_signal(signal_number))
    assert evaluate_model.main([str(run)]) == code
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    assert "Traceback" not in capsys.readouterr().err


def test_a_run_that_saves_an_epoch_during_evaluation_is_evaluated_consistently(
    run, no_figures, monkeypatch
):
    load_model, history = runs.load_model, runs.load_history(run)

    def load_and_train(path):
        model = load_model(path)
        if len(runs.load_history(path)) == len(history):
            better = load_model(path)
            better.layers[-1].bias.assign_add(np.arange(10, dtype=np.float32))
            runs.save_epoch(path, [*history, {**history[-1], "epoch": 3, "val_loss": 0.0}], better)
        return model

    monkeypatch.setattr(runs, "load_model", load_and_train)
    results = evaluate_model.evaluate(run)
    assert results["epochs"] == results["kept_epoch"] == 3
    assert results["loss"] == pytest.approx(evaluate_model.evaluate(run)["loss"])


def test_an_unfinished_run_is_evaluated_only_if_it_is_named(run, no_figures, capsys):
    (run / runs.CHECKPOINT).mkdir()
    assert evaluate_model.main(["--runs-dir", str(run.parent)]) == 1
    assert "no finished run" in capsys.readouterr().err
    assert evaluate_model.main([str(run)]) == 0


def failure(capfd, *options):
    assert evaluate_model.main([*map(str, options)]) == 1
    message = capfd.readouterr().err
    assert message.count("\n") == 1 and message.startswith("evaluate_model.py: ")
    return message


def test_missing_and_corrupt_runs_are_reported(run, tmp_path, capfd):
    assert "nowhere" in failure(capfd, tmp_path / "nowhere")
    assert "config.json" in failure(capfd, tmp_path)
    for name in ("history.csv", "model.keras", "config.json"):
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[:40])
        assert f"{name} " in failure(capfd, run)
        (run / name).unlink()
        assert name in failure(capfd, run)
        (run / name).write_bytes(content)


@pytest.mark.parametrize(
    "change", [{"seed": "0"}, {"val_size": None}, {"model": 5}, {"data_dir": 5}]
)
def test_settings_of_the_wrong_type_are_reported(run, capfd, change):
    (run / "config.json").write_text(json.dumps(runs.load_config(run) | change))
    message = failure(capfd, run)
    assert f"config.json is corrupt (missing or invalid: {next(iter(change))})" in message


def test_a_history_without_a_finite_loss_is_reported(run, capfd):
    runs.save_epoch(run, [row | {"val_loss": float("nan")} for row in runs.load_history(run)])
    assert "no epoch has a finite validation loss" in failure(capfd, run)


def test_data_is_searched_elsewhere_if_its_folder_was_removed(run, no_figures, tmp_path):
    (run / "config.json").write_text(
        json.dumps(runs.load_config(run) | {"data_dir": str(tmp_path / "removed")})
    )
    assert evaluate_model.main([str(run)]) == 0


def test_a_run_trained_on_other_data_is_rejected(run, synthetic_data_dir, monkeypatch, capfd):
    monkeypatch.setattr(
        source,
        "FILES",
        synthetic_data.write_dataset(synthetic_data_dir, synthetic_data.make_arrays(seed=1)),
    )
    assert "trained on other data" in failure(capfd, run)
    assert not (run / "metrics.json").exists()


def test_a_model_for_other_images_is_rejected(run, capfd):
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    model.save(run / runs.MODEL)
    assert "not a model for Fashion-MNIST" in failure(capfd, run)


@pytest.mark.slow
def test_invalid_folders_are_reported(run, tmp_path, capfd):
    file = tmp_path / "file"
    file.touch()
    assert str(file) in failure(capfd, run, "--output-dir", file)
    assert "nowhere" in failure(capfd, run, "--data-dir", tmp_path / "nowhere")


@pytest.mark.slow
def test_a_short_training_on_real_data_reaches_the_expected_accuracy(real_data, tmp_path):
    assert (
        train_cnn.main(
            [
                "--limit",
                "12000",
                "--epochs",
                "4",
                "--batch-size",
                "64",
                "--data-dir",
                real_data,
                "--runs-dir",
                str(tmp_path),
                "--name",
                "run",
            ]
        )
        == 0
    )
    results = evaluate_model.evaluate(tmp_path / "run")
    assert 0.83 < results["accuracy"] < 0.92
    assert results["images"] == 10000
