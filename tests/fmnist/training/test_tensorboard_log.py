import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

import data
import train_cnn
from fmnist import runs, source
from fmnist.config import TrainConfig
from fmnist.training import engines, tensorboard_log, whitening
from model import MODELS, build_model
from tests import ROOT

OPTIONS = ["--val-size", "100", "--batch-size", "100", "--epochs", "3", "--learning-rate", "0.003"]
SMALL = ["--width", "0.2", "--tensorboard"]


def train(tmp_path, *options, name="run"):
    assert train_cnn.main([*OPTIONS, "--runs-dir", str(tmp_path), "--name", name, *options]) == 0
    return tmp_path / name


def events(run, part):
    """Return the steps and values of every tag of a subfolder."""
    log = EventAccumulator(str(run / "tensorboard" / part), size_guidance={"tensors": 0})
    log.Reload()
    return {
        tag: [
            (event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in log.Tensors(tag)
        ]
        for tag in log.Tags()["tensors"]
    }


def assert_complete(run):
    """Check that every epoch of the history is logged, and that duplicates are identical.

    Return how many epochs each tag has, including duplicates, as a set of numbers.
    """
    history = runs.load_history(run)
    parts = {part: events(run, part) for part in ("train", "validation")}
    counts = set()
    for part, prefix in (("train", ""), ("validation", "val_")):
        for values in parts[part].values():
            by_step = {}
            for step, value in values:
                assert np.array_equal(by_step.setdefault(step, value), value)
            assert [*by_step] == [row["epoch"] for row in history]
            counts.add(len(values))
        for name in ("loss", "accuracy"):
            logged = dict(parts[part][name])
            for row in history:
                assert logged[row["epoch"]] == pytest.approx(row[prefix + name], nan_ok=True)
    rates = dict(parts["train"]["learning_rate"])
    assert [rates[row["epoch"]] for row in history] == pytest.approx(
        [row["learning_rate"] for row in history]
    )
    assert set(parts["validation"]) == {"loss", "accuracy", "confusion_matrix"}
    return counts


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--optimizer", "adam", "--schedule", "plateau", "--ema-epochs", "0.5", "--patience", "0"],
        ["--engine", "plain", "--limit", "300", "--ensemble-size", "2", "--patience", "0"],
        ["--mixed-precision", "--model", "deep_cnn", "--patience", "0"],
    ],
    ids=["averaged weights", "plain ensemble", "mixed precision"],
)
def test_the_logs_contain_the_history_and_the_saved_weights(
    synthetic_dataset, tmp_path, monkeypatch, options
):
    matrices = []

    def record(counts):
        matrices.append(counts)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(tensorboard_log, "confusion_image", record)
    monkeypatch.setattr(engines, "mixed_policy", lambda: "mixed_bfloat16")
    run = train(tmp_path, *SMALL, *options)
    assert assert_complete(run) == {3}
    # The confusion matrix is that of the weights that were validated.
    accuracies = [matrix.trace() / matrix.sum() for matrix in matrices]
    validated = [row["val_accuracy"] for row in runs.load_history(run)]
    assert accuracies == pytest.approx(validated, abs=0.011 if "mixed" in options[0] else 1e-6)
    histograms, model = events(run, "train"), runs.load_model(run)
    for tag, weight in tensorboard_log.tagged_weights(model).items():
        buckets, values = histograms[tag][-1][1], weight.numpy()  # rows: left, right, count
        assert buckets[:, 2].sum() == values.size
        if np.ptp(values) > 0:
            assert buckets[0, 0] == pytest.approx(values.min(), rel=1e-5)
            assert buckets[-1, 1] == pytest.approx(values.max(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["fast", "plain"])
def test_logging_does_not_change_the_weights(synthetic_dataset, tmp_path, engine):
    options = ["--engine", engine, "--dropout", "0.2", "--width", "0.2"]
    run = train(tmp_path, *options, "--tensorboard")
    other = train(tmp_path, *options, name="other")
    assert not (other / "tensorboard").exists()
    for logged, plain in zip(
        runs.load_model(run).get_weights(), runs.load_model(other).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(logged, plain)
    assert runs.load_train_config(other).gives_the_same_as(runs.load_config(run))


def test_the_setting_is_recorded_but_does_not_count_as_a_setting_of_the_result():
    config = TrainConfig(tensorboard=True)
    assert config.to_record()["tensorboard"] and "tensorboard" not in config.result_settings()
    assert TrainConfig().gives_the_same_as(config.to_record())
    record = TrainConfig().to_record()
    del record["tensorboard"]  # an older run
    assert TrainConfig.from_record(record) == TrainConfig()


# A training of a process that is killed in the second epoch, by its own hand.
KILLED = """
import os, signal, sys
from pathlib import Path
import train_cnn
from fmnist import runs, runtime, source
from tests.synthetic_data import make_arrays, write_dataset
runtime.configure_tensorflow(concurrent_operations=2)
import tensorflow as tf
from fmnist.training import checkpoint
source.FILES = write_dataset(Path(sys.argv[1]), make_arrays())
module = {"tf.summary": tf.summary, "checkpoint": checkpoint, "runs": runs}[sys.argv[2]]
function, remaining = getattr(module, sys.argv[3]), [int(sys.argv[4])]
def killing(*arguments, **options):
    remaining[0] -= 1
    if remaining[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments, **options)
setattr(module, sys.argv[3], killing)
train_cnn.main(sys.argv[5:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "module, function, count, logged",
    [
        ("tf.summary", "image", 2, {3, 4}),  # the logs of the second epoch are incomplete
        ("checkpoint", "save_state", 2, {4}),  # they are complete, but the epoch is trained again
        ("runs", "save_epoch", 2, {3}),
    ],
)
def test_a_killed_run_is_logged_without_gaps_when_it_is_resumed(
    synthetic_dataset, tmp_path, module, function, count, logged
):
    options = ["--runs-dir", str(tmp_path), "--name", "run", *SMALL]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(synthetic_dataset), module, function, str(count)]
        + [*OPTIONS, *options],
        cwd=ROOT,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = tmp_path / "run"
    for file in run.glob("tensorboard/*/events*"):  # a record that was not written completely
        file.write_bytes(file.read_bytes() + b"\x18\0\0\0")
    assert train_cnn.main(["--resume", str(run)]) == 0
    assert assert_complete(run) == logged
    assert len([*run.glob("tensorboard/train/events*")]) == 2


@pytest.mark.slow
def test_an_interrupted_run_logs_every_epoch_once(
    synthetic_dataset, tmp_path, interrupt_after_first_epoch
):
    arguments = [*OPTIONS, "--runs-dir", str(tmp_path), "--name", "run", *SMALL]
    with interrupt_after_first_epoch():
        assert train_cnn.main(arguments) == 130
    assert train_cnn.main(["--resume", str(tmp_path / "run")]) == 0
    assert assert_complete(tmp_path / "run") == {3}


@pytest.mark.slow
def test_a_diverged_run_is_logged(synthetic_dataset, tmp_path, capfd, monkeypatch):
    load = data.load

    def load_and_set_nan(*arguments):
        dataset = load(*arguments)
        for part in (dataset.train, dataset.validation):
            part.images[:] = np.nan
        return dataset

    monkeypatch.setattr(data, "load", load_and_set_nan)
    monkeypatch.setattr(whitening, "whiten", lambda *arguments: None)  # it fails with NaN
    # Divergence leaves no weights, so that the run would be removed.
    monkeypatch.setattr(runs, "discard", lambda run: None)
    # deep_cnn has no ReLU, which would turn NaN into 0.
    arguments = [*OPTIONS, "--runs-dir", str(tmp_path), "--name", "run", *SMALL]
    message = failure(capfd, *arguments, "--model", "deep_cnn")
    assert "is NaN or infinite" in message
    assert [step for step, _ in events(tmp_path / "run", "validation")["loss"]] == [1]


def failure(capsys, *arguments):
    assert train_cnn.main([*arguments]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "Traceback" not in message
    return message


def test_without_the_package_the_command_ends_before_training(
    synthetic_dataset, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    message = failure(capsys, *OPTIONS, "--runs-dir", str(tmp_path / "runs"), "--tensorboard")
    assert 'not installed: tensorboard; run: python -m pip install -e ".[tensorboard]"' in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("largest_file", [0, 3000])
def test_a_full_disk_causes_a_one_line_error(synthetic_dataset, tmp_path, capsys, largest_file):
    """A limit on the file size simulates a full disk, which affects the event files only.

    The test uses capsys because capfd itself writes to a file.
    """
    arguments = [*OPTIONS, "--runs-dir", str(tmp_path / "runs"), "--name", "run", *SMALL]
    write, limits = tensorboard_log.TensorBoardLog.write, resource.getrlimit(resource.RLIMIT_FSIZE)

    def write_to_full_disk(log, row):
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, limits[1]))
        try:
            write(log, row)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorboard_log.TensorBoardLog, "write", write_to_full_disk)
        message = failure(capsys, *arguments)
    assert "File too large" in message and "out of memory" not in message
    assert not (tmp_path / "runs/run").exists()


def test_a_folder_that_cannot_be_created_causes_a_one_line_error(
    synthetic_dataset, tmp_path, capsys
):
    config = TrainConfig(val_size=0.2, batch_size=100, width=0.2, tensorboard=True)
    record = config.to_record() | {"fingerprint": source.fingerprint()}
    run = runs.create(tmp_path, "run", record)
    (run / "tensorboard").write_text("")
    message = failure(capsys, "--resume", str(run))
    assert str(run / "tensorboard") in message and "directory" in message


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_tags_are_complete_and_do_not_depend_on_other_models(name):
    first, second = (
        tensorboard_log.tagged_weights(build_model(name, ensemble_size=2)) for _ in range(2)
    )
    assert [*first] == [*second] and len(first) == len(build_model(name, ensemble_size=2).weights)
    assert len(tensorboard_log.tagged_weights(build_model(name))) == len(first) // 2


def test_the_image_of_a_confusion_matrix_is_darkest_on_the_diagonal():
    image = tensorboard_log.confusion_image(np.diag(np.arange(10)) * 7)
    assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    blue = (image[..., 2].astype(int) - image[..., 0]) > 50  # the darkest blue of the colour map
    rows, columns = np.nonzero(blue)
    assert np.corrcoef(rows, columns)[0, 1] > 0.95
