import keras
import numpy as np
import pytest

from fmnist.config import MODEL_OPTIONS
from fmnist.networks import layers_of
from model import MODELS, build_model

# The networks that are lists of layers, without nested models.
SEQUENTIAL = [name for name, options in MODEL_OPTIONS.items() if "batch_norm" in options]
IMAGES = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)


def test_the_default_network_has_the_layers_of_most_tutorials():
    layers = build_model("dropout_cnn").layers
    assert [type(layer).__name__ for layer in layers] == [
        "Conv2D",
        "MaxPooling2D",
        "Conv2D",
        "MaxPooling2D",
        "Dropout",
        "Flatten",
        "Dense",
        "Dropout",
        "Dense",
    ]
    first, _, second, _, early_dropout, _, dense, late_dropout, classifier = layers
    for layer, filters in ((first, 32), (second, 64)):
        assert (layer.filters, layer.kernel_size, layer.padding) == (filters, (3, 3), "valid")
        assert layer.activation is keras.activations.relu
    assert (early_dropout.rate, late_dropout.rate) == (0.25, 0.5)
    assert (dense.units, dense.activation) == (128, keras.activations.relu)
    assert (classifier.units, classifier.activation) == (10, keras.activations.softmax)


def test_the_default_network_has_the_documented_number_of_parameters():
    assert build_model("dropout_cnn").count_params() == 225_034


@pytest.mark.parametrize("name", MODELS)
def test_every_network_returns_class_probabilities(name):
    model = build_model(name)
    probabilities = model.predict(IMAGES, verbose=0)
    assert probabilities.shape == (4, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_dropout_and_l2_change_every_network(name):
    assert sorted(
        {
            layer.rate
            for layer in build_model(name, dropout=0.2).layers
            if isinstance(layer, keras.layers.Dropout)
        }
    ) == [0.1, 0.2]
    assert not build_model(name, l2=0.0).losses
    kernels = [
        layer for layer in build_model(name).layers if hasattr(layer, "kernel") and layer.trainable
    ]
    assert len(build_model(name, l2=0.1).losses) == len(kernels)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_width_and_batch_norm_change_every_network(name):
    def trainable_layers(kind, **options):
        return [
            layer
            for layer in build_model(name, **options).layers
            if isinstance(layer, kind) and layer.trainable
        ]

    assert [layer.filters for layer in trainable_layers(keras.layers.Conv2D, width=1.5)] == [
        round(1.5 * layer.filters) for layer in trainable_layers(keras.layers.Conv2D)
    ]
    assert not trainable_layers(keras.layers.BatchNormalization, batch_norm=False)
    assert len(trainable_layers(keras.layers.BatchNormalization, batch_norm=True)) >= len(
        trainable_layers(keras.layers.Conv2D)
    )


def test_gap_cnn_has_the_given_number_of_convolutions():
    for count in (1, 2, 3, 4):
        model = build_model("gap_cnn", convolutions=count)
        assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == count
        assert model(IMAGES).shape == (4, 10)


def test_the_error_for_an_unknown_network_lists_all_networks():
    with pytest.raises(ValueError, match="vgg.*dropout_cnn, batchnorm_cnn, gap_cnn, lenet_l2"):
        build_model("vgg")


def test_the_residual_network_has_twenty_layers_and_the_published_number_of_parameters():
    """ResNet-20 of He et al. has 0.27 million parameters."""
    model = build_model("resnet")
    convolutions = [layer for layer in layers_of(model) if isinstance(layer, keras.layers.Conv2D)]
    three_by_three = [layer for layer in convolutions if layer.kernel_size == (3, 3)]
    assert len(three_by_three) + 1 == 20  # and the classifier
    assert len(convolutions) - len(three_by_three) == 2  # shortcuts to other numbers of filters
    assert model.get_layer("residual_blocks").output_shape == (None, 7, 7, 64)
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == 271_994


def test_the_shortcuts_pass_the_input_of_a_residual_block_on():
    """With all 3 × 3 convolutions at zero, only the shortcuts remain."""
    blocks = build_model("resnet").get_layer("residual_blocks")
    for layer in blocks.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3):
            layer.kernel.assign(keras.ops.zeros_like(layer.kernel))
    maps = np.random.default_rng(0).normal(size=(1, 28, 28, 16))
    assert np.std(blocks(maps), axis=(1, 2)).max() > 0.1


def test_l2_dropout_and_width_change_the_residual_network():
    kernels = [layer for layer in layers_of(build_model("resnet")) if hasattr(layer, "kernel")]
    assert len(build_model("resnet", l2=0.1).losses) == len(kernels) == 22
    dropout = [
        layer.rate
        for layer in build_model("resnet", dropout=0.2).layers
        if isinstance(layer, keras.layers.Dropout)
    ]
    assert dropout == [0.2]
    assert build_model("resnet", width=0.5).get_layer("residual_blocks").output_shape[-1] == 32
