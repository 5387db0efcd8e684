import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import data
import train_cnn
from fmnist import runs, source
from fmnist.config import OPTIMIZERS, TrainConfig, parse_arguments
from fmnist.networks import members_of
from fmnist.training import checkpoint, loop, optimizers
from fmnist.training.fast_model import SplitBatchModel
from fmnist.training.plain_model import MemberwiseModel
from fmnist.training.whitening import LAYER, whiten
from model import build_model
from tests import ROOT

SMALL = [
    "--val-size",
    "100",
    "--batch-size",
    "50",
    "--learning-rate",
    "0.001",
    "--schedule",
    "constant",
]


def train(tmp_path, *options, name="run"):
    """Train with the command line on synthetic data and return the run directory."""
    code = train_cnn.main([*SMALL, "--runs-dir", str(tmp_path / "runs"), "--name", name, *options])
    assert code == 0
    return tmp_path / "runs" / name


def weights(run):
    return np.concatenate([weight.ravel() for weight in runs.load_model(run).get_weights()])


def losses(run):
    return [row["val_loss"] for row in runs.load_history(run)]


def validation_loss(run):
    """Compute the validation loss of the saved weights."""
    config = runs.load_config(run)
    part = data.load_for_run(config).validation
    return runs.load_model(run).evaluate(data.batches(part, 50), verbose=0)[0]


def test_training_increases_the_accuracy_and_writes_a_finished_run(
    synthetic_dataset, tmp_path, capsys
):
    run = train(tmp_path, "--epochs", "3", "--optimizer", "adam")
    assert sorted(path.name for path in run.iterdir()) == [
        "config.json",
        "history.csv",
        "model.keras",
    ]
    history, config = runs.load_history(run), runs.load_config(run)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert all(
        row["seconds"] > 0 and row["learning_rate"] == pytest.approx(1e-3) for row in history
    )
    assert history[-1]["val_accuracy"] > 0.9
    assert (
        config["batch_size"] == 50
        and config["val_size"] == 100
        and config["fingerprint"] == source.fingerprint()
    )
    assert runs.newest(tmp_path / "runs") == run
    output = capsys.readouterr().out
    assert (
        str(synthetic_dataset) in output
        and output.splitlines()[-1] == f"Next: python evaluate_model.py {run}"
    )


@pytest.mark.slow
def test_the_seconds_of_an_epoch_include_the_time_for_saving(
    synthetic_dataset, tmp_path, monkeypatch
):
    now = [0]  # simulated time in seconds

    def slow(save):
        def save_slowly(*arguments):
            now[0] += 10
            save(*arguments)

        return save_slowly

    for module, name in ((checkpoint, "save_state"), (runs, "save_epoch")):
        monkeypatch.setattr(module, name, slow(getattr(module, name)))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    assert [row["seconds"] for row in runs.load_history(train(tmp_path, "--epochs", "3"))] == [
        20,
        20,
        20,
    ]


@pytest.mark.slow
def test_the_training_step_is_traced_once(synthetic_dataset, tmp_path, monkeypatch):
    train_step, traced = SplitBatchModel.train_step, []
    monkeypatch.setattr(
        SplitBatchModel,
        "train_step",
        lambda model, batch: traced.append(model) or train_step(model, batch),
    )
    train(tmp_path, "--epochs", "2")
    assert len(traced) == 1


@pytest.mark.slow
def test_early_stopping_keeps_the_weights_of_the_best_epoch(random_label_dataset, tmp_path):
    run = train(
        tmp_path, "--epochs", "30", "--patience", "2", "--dropout", "0", "--learning-rate", "0.003"
    )
    history = losses(run)
    best = int(np.argmin(history))
    assert len(history) == best + 3 < 30
    assert history[-1] > history[best] + 0.001
    assert validation_loss(run) == pytest.approx(history[best], abs=1e-4)


@pytest.mark.slow
def test_the_default_training_learns_in_few_epochs(synthetic_dataset, tmp_path):
    # Small batches and steps, because there are only 500 training images.
    options = ["--batch-size", "20", "--learning-rate", "0.003", "--epochs", "4"]
    options += ["--val-size", "100", "--runs-dir", str(tmp_path), "--name", "run"]
    assert train_cnn.main(options) == 0
    config, history = runs.load_config(tmp_path / "run"), runs.load_history(tmp_path / "run")
    assert (config["optimizer"], config["prune_every"]) == ("muon", 2)
    assert history[-1]["val_accuracy"] > 0.9


@pytest.mark.slow
def test_early_stopping_ends_the_default_training_on_random_labels(random_label_dataset, tmp_path):
    options = ["--val-size", "100", "--runs-dir", str(tmp_path), "--name", "run"]
    # Small batches and steps, because there are only 500 training images.
    assert train_cnn.main([*options, "--batch-size", "20", "--learning-rate", "0.001"]) == 0
    config, history = runs.load_train_config(tmp_path / "run"), losses(tmp_path / "run")
    assert config.schedule == "one-cycle" and config.patience
    assert len(history) == int(np.argmin(history)) + 1 + config.patience < config.epochs
    # It cannot act before the learning rate has reached its peak.
    assert optimizers.WARM_UP * config.epochs < config.patience


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_classical_training_stops_when_the_validation_loss_stops_falling(
    random_label_dataset, tmp_path, optimizer
):
    options = ["--schedule", "constant", "--epochs", "100", "--patience", "5"]
    run = train(tmp_path, *options, "--optimizer", optimizer)
    history = losses(run)
    assert len(history) == int(np.argmin(history)) + 1 + 5 < 100
    assert learning_rates(run) == [pytest.approx(0.001)] * len(history)
    assert validation_loss(run) == pytest.approx(min(history), abs=1e-4)


@pytest.mark.slow
def test_without_early_stopping_the_last_weights_are_saved(random_label_dataset, tmp_path):
    run = train(
        tmp_path,
        "--epochs",
        "8",
        "--patience",
        "0",
        "--dropout",
        "0",
        "--learning-rate",
        "0.003",
        "--schedule",
        "constant",
    )
    assert learning_rates(run) == [pytest.approx(0.003)] * 8
    history = losses(run)
    assert len(history) == 8 and history[-1] > min(history) + 0.01
    assert validation_loss(run) == pytest.approx(history[-1], abs=1e-4)


@pytest.mark.slow
def test_the_same_seed_gives_bit_identical_weights(synthetic_dataset, tmp_path):
    options = ["--epochs", "2", "--augment", "flip+shift", "--model", "batchnorm_cnn"]
    first, repeated, other = (
        weights(train(tmp_path, *options, "--seed", seed, name=name))
        for name, seed in (("first", "1"), ("repeated", "1"), ("other", "2"))
    )
    np.testing.assert_array_equal(first, repeated)
    assert not np.array_equal(first, other)


def learning_rates(run):
    return [row["learning_rate"] for row in runs.load_history(run)]


@pytest.mark.slow
def test_cosine_and_one_cycle_end_with_a_learning_rate_of_zero(synthetic_dataset, tmp_path):
    cosine = learning_rates(
        train(tmp_path, "--schedule", "cosine", "--epochs", "4", "--patience", "0", name="cosine")
    )
    assert cosine == sorted(cosine, reverse=True) and 0.8e-3 < cosine[0] < 1e-3
    cycle = learning_rates(
        train(tmp_path, "--schedule", "one-cycle", "--epochs", "4", "--patience", "0", name="cycle")
    )
    assert 0.9e-3 < cycle[0] < 1e-3 and cycle == sorted(cycle, reverse=True)
    assert cosine[-1] == pytest.approx(0, abs=1e-8) and cycle[-1] == pytest.approx(0, abs=1e-8)


@pytest.mark.slow
def test_plateau_halves_the_learning_rate_when_the_loss_stops_falling(
    random_label_dataset, tmp_path
):
    run = train(
        tmp_path,
        "--epochs",
        "9",
        "--patience",
        "0",
        "--dropout",
        "0",
        "--schedule",
        "plateau",
        "--learning-rate",
        "0.004",
    )
    assert learning_rates(run)[0] == pytest.approx(0.004) and learning_rates(run)[-1] in (
        pytest.approx(0.002),
        pytest.approx(0.001),
        pytest.approx(0.0005),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "option",
    [
        ["--label-smoothing", "0.2"],
        ["--dropout", "0.1"],
        ["--l2", "0.01"],
        ["--augment", "none"],
        ["--batch-size", "100"],
        ["--limit", "300"],
        ["--learning-rate", "0.01"],
        ["--ema-epochs", "2"],
        ["--prune-every", "1"],
        ["--optimizer", "adam"],
        ["--weight-decay", "1"],
        ["--batch-norm", "yes"],
    ],
    ids=lambda option: option[0],
)
def test_every_option_changes_the_weights(
    synthetic_dataset,
    tmp_path,
    option,
    plain=[],  # noqa: B006
):
    if not plain:  # trained once for all options
        plain.append(weights(train(tmp_path, "--epochs", "1", name="plain")))
    assert not np.array_equal(plain[0], weights(train(tmp_path, "--epochs", "1", *option)))


@pytest.mark.parametrize(
    "options, message_part",
    [
        (["--model", "vgg"], "dropout_cnn"),
        (["--recipe", "slow"], "classic"),
        (["--recipe"], "--recipe"),
        (["--optimizer", "sgd"], "muon"),
        (["--weight-decay", "-1"], "--weight-decay"),
        (["--epochs", "0"], "--epochs"),
        (["--epochs", "many"], "--epochs"),
        (["--batch-size", "-1"], "--batch-size"),
        (["--batch-size", "501"], "501"),
        (["--learning-rate", "0"], "--learning-rate"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--learning-rate", "inf"], "--learning-rate"),
        (["--schedule", "linear"], "one-cycle"),
        (["--patience", "-1"], "--patience"),
        (["--dropout", "1"], "--dropout"),
        (["--l2", "-1"], "--l2"),
        (["--label-smoothing", "1"], "--label-smoothing"),
        (["--val-size", "600"], "600"),
        (["--val-size", "0"], "validation size"),
        (["--limit", "601"], "limit"),
        (["--width", "0"], "--width"),
        (["--batch-norm", "often"], "--batch-norm"),
        (["--convolutions", "2"], "--convolutions has no effect on dropout_cnn"),
        (["--model", "gap_cnn", "--convolutions", "5"], "--convolutions"),
        (["--prune-every", "51"], "--prune-every"),
        (["--weights", "imagenet"], "--weights"),
        (["--model", "mobilenet", "--weights", "imagenet", "--init-from", "x"], "--init-from"),
        (["--model", "mobilenet", "--l2", "0.1"], "--l2"),
        (["--augment", "mixup"], "flip"),
        (["--seed", "-1"], "--seed"),
        (["--seed", str(2**31)], "--seed"),
        (["--name", "../up"], "--name"),
        (["--name", ""], "--name"),
        (["--epoch", "3"], "--epoch"),
        (["more"], "more"),
    ],
)
def test_an_invalid_option_is_rejected_in_one_line(
    synthetic_dataset, capsys, options, message_part
):
    with pytest.raises(SystemExit) as caught:
        train_cnn.main([*SMALL, *options])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and message_part in message


def failure(capfd, *options):
    assert train_cnn.main([*SMALL, *options]) == 1
    message = capfd.readouterr().err
    assert message.count("\n") == 1 and message.startswith("train_cnn.py: ")
    return message


def test_invalid_paths_are_reported(synthetic_dataset, tmp_path, capfd):
    file = tmp_path / "file"
    file.touch()
    assert "nowhere" in failure(capfd, "--data-dir", str(tmp_path / "nowhere"))
    assert str(file) in failure(capfd, "--runs-dir", str(file))
    (tmp_path / "runs/mine").mkdir(parents=True)
    assert "choose another --name" in failure(
        capfd, "--runs-dir", str(tmp_path / "runs"), "--name", "mine"
    )


@pytest.mark.slow
def test_invalid_weights_are_reported_and_create_no_run(synthetic_dataset, tmp_path, capfd):
    (tmp_path / "text.h5").write_text("no weights")
    for file in ("missing.h5", "text.h5"):
        message = failure(
            capfd,
            "--model",
            "mobilenet",
            "--weights",
            str(tmp_path / file),
            "--runs-dir",
            str(tmp_path / "runs"),
        )
        assert f"{file} cannot be loaded" in message and "leave --weights out" in message
    assert not (tmp_path / "runs").exists()


def test_a_resumed_run_without_an_epoch_loads_the_initial_weights(
    synthetic_dataset, tmp_path, monkeypatch
):
    options = [
        *SMALL,
        "--model",
        "mobilenet",
        "--width",
        "0.35",
        "--weights",
        "weights.h5",
        "--runs-dir",
        str(tmp_path),
    ]
    config, _ = parse_arguments("", options)
    run = runs.create(tmp_path, "run", config.to_record() | {"fingerprint": source.fingerprint()})
    monkeypatch.setattr(loop, "load_initial_weights", lambda config, model: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_cnn.train(config, run)


@pytest.mark.slow
def test_a_nan_loss_stops_training(synthetic_dataset, tmp_path, capfd):
    message = failure(
        capfd, "--runs-dir", str(tmp_path), "--learning-rate", "1e38", "--epochs", "3"
    )
    assert "the loss of epoch 1 " in message and "--learning-rate 1e+38 is too high" in message
    assert not list(tmp_path.glob("*-dropout_cnn*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "save_function, signal_number, code",
    [("save_state", signal.SIGTERM, 143), ("save_epoch", signal.SIGINT, 130)],
)
def test_ctrl_c_and_sigterm_keep_the_best_weights_and_print_their_path(
    synthetic_dataset, tmp_path, capfd, monkeypatch, save_function, signal_number, code
):
    """Weights and history are consistent even if the signal arrives while files are written."""
    module = checkpoint if save_function == "save_state" else runs
    save, calls = getattr(module, save_function), []

    def interrupted_save(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            signal.raise_signal(signal_number)
        save(*arguments)

    monkeypatch.setattr(module, save_function, interrupted_save)
    assert train_cnn.main([*SMALL, "--runs-dir", str(tmp_path), "--name", "run"]) == code
    run, message = tmp_path / "run", capfd.readouterr().err
    assert f"--resume {run}" in message
    assert (
        str(run / "model.keras") in message
        and "of epoch 2" in message
        and "Traceback" not in message
    )
    assert len(losses(run)) == 2 and validation_loss(run) == pytest.approx(losses(run)[1], abs=1e-4)
    assert not runs.is_finished(run)


def test_ctrl_c_in_the_first_epoch_leaves_no_run(synthetic_dataset, tmp_path, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "train_step", interrupt)
    assert train_cnn.main([*SMALL, "--runs-dir", str(tmp_path), "--name", "run"]) == 130
    assert "nothing was saved" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_full_disk_causes_a_one_line_error(synthetic_dataset, tmp_path, capfd, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_state", full)
    assert "No space left" in failure(capfd, "--runs-dir", str(tmp_path))


@pytest.mark.slow
def test_weights_saved_before_a_nan_loss_are_reported(
    synthetic_dataset, tmp_path, capfd, monkeypatch
):
    save_epoch = runs.save_epoch

    def save_and_set_nan(run, history, model=None):
        save_epoch(run, history, model)
        if model:
            model.layers[-1].bias.assign(np.full(10, np.nan))

    monkeypatch.setattr(runs, "save_epoch", save_and_set_nan)
    run = tmp_path / "run"
    message = failure(
        capfd, "--runs-dir", str(tmp_path), "--name", "run", "--patience", "0", "--epochs", "3"
    )
    assert (
        "loss of epoch 2 is" in message
        and "of epoch 1 " in message
        and str(run / "model.keras") in message
    )
    assert not runs.is_finished(run)
    assert train_cnn.main(["--resume", str(run)]) == 1
    assert "loss of epoch 2 is" in capfd.readouterr().err


@pytest.mark.slow
def test_a_nan_validation_loss_stops_training(synthetic_dataset, tmp_path, capfd, monkeypatch):
    load = data.load

    def load_and_set_nan(*arguments):
        dataset = load(*arguments)
        # deep_cnn has no ReLU, which would turn NaN into 0.
        dataset.validation.images[:] = np.nan
        return dataset

    monkeypatch.setattr(data, "load", load_and_set_nan)
    message = failure(capfd, "--runs-dir", str(tmp_path), "--epochs", "2", "--model", "deep_cnn")
    assert re.search("the loss of epoch [12] is", message)


def test_an_error_without_standard_output_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdout", None)
    assert train_cnn.main(["--resume", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "no config.json" in message


def out_of_memory():
    raise MemoryError


def aborted():
    """Raise the error of oneDNN's operations when memory runs out."""
    raise tf.errors.AbortedError(None, None, "could not create a memory object")


@pytest.mark.slow
@pytest.mark.parametrize("raise_error", [out_of_memory, aborted])
def test_out_of_memory_causes_a_one_line_error_and_the_run_is_resumable(
    synthetic_dataset, tmp_path, capfd, monkeypatch, raise_error
):
    save_epoch = runs.save_epoch

    def run_out_of_memory(run, history, model=None):
        if len(history) == 3:
            raise_error()
        save_epoch(run, history, model)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_epoch", run_out_of_memory)
        message = failure(capfd, "--runs-dir", str(tmp_path), "--name", "run", "--epochs", "3")
    assert "out of memory in epoch 3" in message
    assert "a new run with a --batch-size below 50" in message
    # The advice works: this command has no --batch-size, which --resume does not accept.
    command = shlex.split(message.rpartition("To resume: ")[2])
    assert command[:2] == ["python", "train_cnn.py"]
    assert train_cnn.main(command[2:]) == 0
    assert len(losses(tmp_path / "run")) == 3


@pytest.mark.slow
def test_a_missing_deterministic_operation_causes_a_one_line_error(
    synthetic_dataset, tmp_path, capfd, monkeypatch
):
    def fail(model, batch):
        message = "Deterministic GPU implementation of X not available."
        raise tf.errors.UnimplementedError(None, None, f"{message}\n more lines")

    monkeypatch.setattr(MemberwiseModel, "train_step", fail)
    message = failure(capfd, "--runs-dir", str(tmp_path), "--name", "run")
    assert "X not available" in message and "CUDA_VISIBLE_DEVICES=-1" in message
    assert not (tmp_path / "run").exists()


@pytest.fixture
def finished(synthetic_dataset, tmp_path):
    """A finished run, its options, and its lowest validation loss."""
    options = ["--model", "lenet_l2", "--dropout", "0", "--l2", "0"]
    run = train(tmp_path, *options, "--epochs", "2", name="first")
    return run, options, min(losses(run))


@pytest.mark.slow
def test_a_new_run_starts_from_the_weights_of_a_finished_one(finished, tmp_path, monkeypatch):
    run, options, loss = finished
    # With so low a learning rate, the weights and the loss hardly change.
    small = [*options, "--epochs", "1", "--learning-rate", "1e-7", "--init-from", str(run)]
    second = train(tmp_path, *small, name="second")
    assert losses(second)[0] == pytest.approx(loss, rel=1e-3)
    assert runs.load_config(second)["init_from"] == str(run)
    # The optimizer is a new one, with the options of the new run.
    third = train(tmp_path, *options, "--epochs", "3", "--init-from", str(run), name="third")
    assert [row["epoch"] for row in runs.load_history(third)] == [1, 2, 3]
    assert min(losses(third)) < loss

    # A run that is interrupted before its first epoch loads the weights again.
    config, _ = parse_arguments("", [*SMALL, *small, "--runs-dir", str(tmp_path / "runs")])
    record = config.to_record() | {"fingerprint": source.fingerprint()}
    fourth = train_cnn.resume(runs.create(tmp_path / "runs", "fourth", record))
    assert np.array_equal(weights(fourth), weights(second))


@pytest.mark.slow
def test_a_fold_is_recorded_and_determines_the_validation_set(synthetic_dataset, tmp_path):
    run = train(tmp_path, "--epochs", "2", "--fold", "5")
    assert runs.load_config(run)["fold"] == 5
    assert validation_loss(run) == pytest.approx(min(losses(run)), rel=1e-5)
    assert "--fold 5" in runs.how_to_train_further(run)
    part = data.load_for_run(runs.load_config(run)).validation
    np.testing.assert_array_equal(part.images, data.load(val_size=100, fold=5).validation.images)


@pytest.mark.slow
def test_weights_of_an_unsuitable_run_are_rejected_with_a_command_that_works(
    finished, tmp_path, capfd
):
    run, options, _ = finished
    config = runs.load_config(run)
    for damaged in ({"batch_size": 50, "limit": 200}, {"model": "removed", "width": "x"}, {}):
        (run / runs.CONFIG).write_text(json.dumps(config | damaged))
        assert train_cnn.main(["--resume", str(run)]) == 0
        assert ("--limit 200" in capfd.readouterr().out) == ("limit" in damaged)
    new = ["--runs-dir", str(tmp_path / "runs"), "--name", "second", "--init-from", str(run)]
    assert train_cnn.main(["--resume", str(run)]) == 0
    named = capfd.readouterr().out
    for different in (
        [],
        [*options, "--seed", "1"],
        [*options, "--limit", "300"],
        [*options, "--fold", "0"],
    ):
        message = failure(capfd, *new, *different)
        assert "was trained with another --" in message
        for text in (message, named.splitlines()[0]):
            command = shlex.split(text.rpartition("python train_cnn.py ")[2])
            config, _ = parse_arguments("", command)
            assert config.init_from == str(run) and config.model == "lenet_l2"
            assert config.val_size == 100
    assert "finished run" in failure(capfd, *options, "--init-from", str(tmp_path / "missing"))
    # Another network than the settings of the run claim.
    build_model("lenet_l2", width=2).save(run / runs.MODEL)
    assert "is not that of its config.json" in failure(capfd, *options, *new)
    assert not (tmp_path / "runs/second").exists()
    with pytest.raises(SystemExit, match="2"):
        train_cnn.main(["--resume", str(run), "--epochs", "5"])
    assert f"--init-from {run}" in capfd.readouterr().err


@pytest.mark.slow
def test_standard_error_of_the_process_is_one_line(tmp_path):
    """TensorFlow bypasses Python when it writes to stderr, so that the test needs a subprocess."""
    done = subprocess.run(
        [sys.executable, "train_cnn.py", "--data-dir", str(tmp_path / "nowhere")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "nowhere" in done.stderr


@pytest.mark.slow
def test_a_corrupt_keras_json_is_reported(tmp_path):
    (tmp_path / "keras.json").write_text('{"floatx": "float31"}')
    done = subprocess.run(
        [sys.executable, "train_cnn.py", "--data-dir", "nowhere"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "KERAS_HOME": str(tmp_path)},
    )
    assert (
        done.returncode == 1
        and done.stderr.count("\n") == 1
        and str(tmp_path / "keras.json") in done.stderr
    )


def test_help_imports_no_slow_package():
    """Check the imports instead of the time, which differs between machines."""
    code = (
        "import sys, train_cnn, evaluate_model\n"
        "from tools import compare_models, explore_data, export_model\n"
        "from tools import predict_image, serve_model, tune_model\n"
        "for script in (train_cnn, evaluate_model, explore_data, compare_models, tune_model,\n"
        "               predict_image, export_model, serve_model):\n"
        "    try: script.main(['--help'])\n"
        "    except SystemExit as stop: assert stop.code == 0\n"
        "slow = {'tensorflow', 'keras', 'sklearn', 'matplotlib', 'scipy', 'numpy', 'optuna', "
        "'distributed'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.slow
def test_the_saved_model_contains_only_keras_layers(synthetic_dataset, tmp_path):
    model = runs.load_model(
        train(tmp_path, "--epochs", "1", "--model", "gap_cnn", "--schedule", "one-cycle")
    )
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    assert isinstance(model, keras.Sequential)


@pytest.mark.slow
def test_training_sets_the_whitening_filters_once_and_keeps_them(synthetic_dataset, tmp_path):
    run = train(
        tmp_path,
        "--epochs",
        "1",
        "--model",
        "allconv_cnn",
        "--ensemble-size",
        "2",
        "--weight-decay",
        "1",
    )
    config = runs.load_config(run)
    expected = build_model("allconv_cnn")
    whiten(
        expected, data.load(None, config["val_size"], config["limit"], config["seed"]).train.images
    )
    for member in members_of(runs.load_model(run)):
        assert member.layers[1].name == LAYER and not member.layers[1].trainable
        np.testing.assert_array_equal(member.layers[1].kernel, expected.layers[1].kernel)


@pytest.mark.slow
def test_training_can_be_called_from_python(synthetic_dataset, tmp_path):
    config = TrainConfig(
        model="lenet_l2", epochs=1, val_size=100, batch_size=100, runs_dir=tmp_path, name="mine"
    )
    run = train_cnn.train(config)
    assert run == tmp_path / "mine" and runs.is_finished(run)
    assert runs.load_train_config(run) == dataclasses.replace(config, engine="fast")  # chosen
    assert train_cnn.train_or_resume(config) == run  # not trained again
    other = TrainConfig(**config.to_record() | {"epochs": 2})
    with pytest.raises(runs.RunError, match="trained with other settings"):
        train_cnn.train_or_resume(other)
