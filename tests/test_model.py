import keras
import numpy as np
import pytest

from model import MODELS, build_model

WITHOUT_MOBILENET = [name for name in MODELS if name != "mobilenet"]
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


@pytest.mark.parametrize("name", WITHOUT_MOBILENET)
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


@pytest.mark.parametrize("name", WITHOUT_MOBILENET)
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
    with pytest.raises(ValueError, match="resnet.*dropout_cnn, batchnorm_cnn, gap_cnn, lenet_l2"):
        build_model("resnet")
