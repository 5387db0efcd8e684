import json
import warnings
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import train_cnn
from fmnist import cli, runs, runtime
from fmnist.config import ENGINES, TrainConfig
from fmnist.training import data_pruning, engines
from fmnist.training.plain_model import MemberwiseModel, dropout_states
from model import build_model

RNG = np.random.default_rng(0)
COUNT = 64
IMAGES = RNG.random((COUNT, 28, 28, 1), np.float32)
LABELS = keras.utils.to_categorical(RNG.integers(0, 10, COUNT), 10)
# A network is deterministic without dropout, and independent of the halves of a batch without batch
# normalisation.
NETWORKS = {
    "network": dict(name="lenet_l2", dropout=0),
    "ensemble": dict(name="dropout_cnn", ensemble_size=2, dropout=0, l2=1e-3),
}


def one_step(engine, network, pruning=None):
    """Train on one batch; return the weights, the logs and the training model."""
    model = build_model(**NETWORKS[network])
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.1, weight.shape) for weight in model.weights])
    config, optimizer = TrainConfig(engine=engine), keras.optimizers.SGD(0.1)
    trained = engines.training_model(model, config, optimizer.iterations, pruning)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    trained.compile(optimizer, loss, weighted_metrics=["accuracy"])
    images = (IMAGES, np.arange(COUNT, dtype=np.int32)) if pruning else IMAGES
    batch = (images, LABELS, np.linspace(0.5, 1.5, COUNT, dtype=np.float32))
    logs = trained.fit(tf.data.Dataset.from_tensors(batch), shuffle=False, verbose=0).history
    return model.get_weights(), logs, trained


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("pruned", [False, True])
def test_both_engines_compute_the_same_step(network, pruned):
    results = []
    for engine in ("fast", "plain"):
        pruning = data_pruning.DataPruning(COUNT, every=2) if pruned else None
        weights, logs, trained = one_step(engine, network, pruning)
        outputs = trained.predict(IMAGES, verbose=0)
        results.append([*weights, logs["loss"], logs["accuracy"], outputs])
        if pruned:
            results[-1].append(pruning.losses.numpy())
            assert (pruning.losses.numpy() > 0).all()
    for fast, plain in zip(*results, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-3, atol=1e-5)


def test_the_engine_plain_fits_a_stock_model_of_the_unmodified_layers():
    model = build_model("dropout_cnn")
    config = TrainConfig(engine="plain")
    trained = engines.training_model(model, config, keras.Variable(0), None)
    assert type(trained).__module__.startswith("keras.")
    assert [layer for layer in trained.layers if layer not in model.layers] == trained.layers[:1]
    ensemble = build_model("deep_cnn", 2)
    trained = engines.training_model(ensemble, config, keras.Variable(0), None)
    assert type(trained) is MemberwiseModel and trained.members == ensemble.layers[1:3]


def test_dropout_depends_on_the_seed_only():
    states = []
    for seed in (1, 1, 2):
        model = build_model("dropout_cnn")
        engines.training_model(model, TrainConfig(engine="plain", seed=seed), None, None)
        states.append(np.array([state.numpy() for state in dropout_states(model)]))
    assert states[0].shape == (2, 2) and len(np.unique(states[0])) == 4
    assert np.array_equal(states[0], states[1]) and not np.array_equal(states[0], states[2])


@pytest.mark.parametrize("engine", ["auto", "fast", "plain"])
@pytest.mark.parametrize("devices", [[], ["GPU:0"]])
def test_auto_is_plain_on_a_gpu_and_else_fast(engine, devices, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: devices)
    chosen = engines.choose(TrainConfig(engine=engine, epochs=3))
    expected = ("plain" if devices else "fast") if engine == "auto" else engine
    assert chosen == TrainConfig(engine=expected, epochs=3)


def test_a_run_of_either_engine_suffices_for_auto():
    auto, fast, plain = (TrainConfig(engine=engine).to_record() for engine in ENGINES)
    for record in (auto, fast, plain):
        assert TrainConfig(engine="auto").gives_the_same_as(record)
    assert TrainConfig(engine="plain").gives_the_same_as(plain)
    assert not TrainConfig(engine="plain").gives_the_same_as(fast)
    del fast["engine"]  # of a version without engines
    assert TrainConfig(engine="fast").gives_the_same_as(fast)


def configs_of_layers(run):
    with zipfile.ZipFile(run / runs.MODEL) as archive:
        config = json.loads(archive.read("config.json"))
    return json.dumps(config["config"]["layers"])


OPTIONS = ["--batch-norm", "--width", "0.3", "--val-size", "100", "--batch-size", "20"]
OPTIONS += ["--ema-epochs", "0.1", "--learning-rate", "0.003", "--epochs", "3", "--patience", "0"]


@pytest.mark.slow
@pytest.mark.parametrize("engine, policy", [("fast", "mixed_bfloat16"), ("plain", "mixed_float16")])
def test_both_engines_train_in_mixed_precision_and_save_a_stock_float32_network(
    engine, policy, synthetic_dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(engines, "mixed_policy", lambda: policy)
    options = [*OPTIONS, "--engine", engine, "--runs-dir", str(tmp_path), "--name", "run"]
    assert train_cnn.main([*options, "--mixed-precision"]) == 0
    run = tmp_path / "run"
    assert runs.load_history(run)[-1]["val_accuracy"] > 0.8
    assert keras.config.dtype_policy().name == "float32"
    model, config = runs.load_model(run), runs.load_config(run)
    assert config["engine"] == engine and config["mixed_precision"]
    for layer in model.layers:
        assert type(layer).__module__.startswith("keras.") and layer.compute_dtype == "float32"
    assert all(weight.dtype == "float32" for weight in model.weights)
    assert "mixed" not in configs_of_layers(run)
    with warnings.catch_warnings(action="error"):
        keras.models.load_model(run / runs.MODEL)
    loss, accuracy = model.evaluate(*validation_set(config), verbose=0)
    assert accuracy == pytest.approx(runs.load_history(run)[-1]["val_accuracy"], abs=0.05)


def validation_set(config):
    import data

    part = data.load(None, config["val_size"], None, config["seed"]).validation
    return part.images, keras.utils.to_categorical(part.labels, 10)


def test_layers_compute_in_mixed_precision_except_the_classifier(monkeypatch):
    monkeypatch.setattr(engines, "mixed_policy", lambda: "mixed_bfloat16")
    with engines.precision(mixed=True):
        model = build_model("batchnorm_cnn")
        trained = engines.training_model(model, TrainConfig(engine="fast"), keras.Variable(0), None)
    assert trained(IMAGES[:2]).dtype == tf.float32
    kinds = {layer.name: layer.compute_dtype for layer in model.layers if layer.weights}
    assert kinds.pop("classifier") == "float32" and {*kinds.values()} == {"bfloat16"}
    assert all(weight.dtype == "float32" for weight in model.weights)
    with engines.precision(mixed=False):
        assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    "devices, flags, policy",
    [
        (["GPU:0"], "", "mixed_float16"),
        ([], "fpu avx512_bf16 ", "mixed_bfloat16"),
        ([], "amx_bf16", "mixed_bfloat16"),
        ([], "avx512f avx512_bf16x", None),
        ([], None, None),
    ],
)
def test_mixed_precision_needs_a_device_that_supports_it(
    devices, flags, policy, tmp_path, monkeypatch
):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: devices)
    monkeypatch.setattr(runtime, "CPU_INFO", tmp_path / "cpuinfo")
    if flags is not None:
        runtime.CPU_INFO.write_text(f"flags\t\t: {flags}\n")
    if policy:
        assert engines.mixed_policy() == policy
    else:
        with pytest.raises(cli.UserError, match="AVX512_BF16 or AMX"):
            engines.mixed_policy()
