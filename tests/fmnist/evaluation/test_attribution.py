from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import data
from fmnist import runs
from fmnist.evaluation import activations, attribution
from model import MODELS, build_model

RUN = Path("run")
IMAGES = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
CLASSES = np.array([1, 5, 9])


def members(model):
    return activations.inspected_members(RUN, model)


@pytest.mark.parametrize("name", MODELS)
def test_the_maps_of_every_network_have_the_size_of_the_images(name):
    model = build_model(name, width=0.5)
    for method in attribution.METHODS.values():
        maps = method(members(model), IMAGES, CLASSES)
        assert maps.shape == (3, 28, 28) and np.isfinite(maps).all()
        assert maps.min() >= 0 or method is attribution.integrated_gradients


def test_class_activation_uses_the_last_fine_feature_maps():
    for name, height, channels in (
        ("dropout_cnn", 11, 64), ("batchnorm_cnn", 7, 64), ("gap_cnn", 7, 64),
        ("allconv_cnn", 7, 64), ("deep_cnn", 7, 64), ("mobilenet", 8, 144),
    ):  # fmt: skip
        outputs = members(build_model(name))[0](IMAGES)
        assert outputs.activation.shape[1:] == (height, height, channels)


def test_grad_cam_of_a_known_network_is_the_weighted_sum_of_its_feature_maps():
    """The logit of class 0 is the mean of channel 0 minus twice that of channel 1."""
    model = keras.Sequential([
        keras.Input((28, 28, 1)), layers.Conv2D(2, 1, activation="relu", use_bias=False),
        layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    model.layers[0].kernel.assign([[[[1.0, 0.25]]]])
    weights = np.zeros((2, 10))
    weights[:, 0] = 1, -2
    model.layers[2].kernel.assign(weights)
    maps = attribution.grad_cam(members(model), IMAGES, np.array([0, 0, 3]))
    expected = (1 - 2 * 0.25) * IMAGES[..., 0] / 28**2
    np.testing.assert_allclose(maps[:2], expected[:2], rtol=1e-4)
    assert not maps[2].any()


def test_hires_cam_weights_every_position_by_its_own_gradient():
    """A dense layer after the feature maps has another weight for every position."""
    model = keras.Sequential([
        keras.Input((28, 28, 1)), layers.Conv2D(1, 1, activation="relu", use_bias=False),
        layers.Flatten(), layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    model.layers[0].kernel.assign([[[[1.0]]]])
    weights = np.random.default_rng(0).normal(size=(784, 10))
    weights[:, 1] -= weights[:, 1].mean() + 1  # negative on average
    model.layers[2].kernel.assign(weights)
    maps = attribution.hires_cam(members(model), IMAGES, CLASSES)
    expected = np.maximum(IMAGES[..., 0] * weights[:, CLASSES].T.reshape(3, 28, 28), 0)
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    assert not attribution.grad_cam(members(model), IMAGES[:1], CLASSES[:1]).any()


def test_both_class_activation_maps_agree_with_global_average_pooling():
    model = keras.Sequential([
        keras.Input((28, 28, 1)), layers.Conv2D(4, 3, activation="relu"),
        layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    maps = [
        method(members(model), IMAGES, CLASSES)
        for method in (attribution.grad_cam, attribution.hires_cam)
    ]
    np.testing.assert_allclose(*maps, atol=1e-6)


@pytest.mark.parametrize("name", ["dropout_cnn", "deep_cnn"])
def test_integrated_gradients_add_up_to_the_difference_from_a_black_image(name):
    model = build_model(name, 2, width=0.5)
    networks = members(model)
    maps = attribution.integrated_gradients(networks, IMAGES, CLASSES)

    def logits(images):
        logits = np.mean([member(images).logits for member in networks], axis=0)
        return logits[np.arange(3), CLASSES]

    expected = logits(IMAGES) - logits(np.zeros_like(IMAGES))
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), expected, atol=0.02)


def test_the_map_of_an_ensemble_is_the_mean_over_its_members():
    networks = members(build_model("gap_cnn", 2, width=0.25))
    both = attribution.integrated_gradients(networks, IMAGES, CLASSES)
    alone = [attribution.integrated_gradients([member], IMAGES, CLASSES) for member in networks]
    np.testing.assert_allclose(both, np.mean(alone, axis=0), atol=1e-6)


@pytest.mark.parametrize("classifier_only", [False, True])
def test_random_kernels_leave_the_original_unchanged(classifier_only):
    model = build_model("dropout_cnn", 2, width=0.25)
    before = model.get_weights()
    copy = attribution.randomised(model, classifier_only)
    for weight, original in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, original)
    changed = [
        not np.array_equal(new, old)
        for new, old in zip(copy.get_weights(), before, strict=True)
        if old.ndim > 1  # kernels
    ]
    assert changed == ([False, False, False, True] * 2 if classifier_only else [True] * 8)


def test_similarity_is_the_rank_correlation_on_the_item():
    images = np.zeros((2, 28, 28, 1), np.float32)
    images[:, 5:20, 5:20] = 1
    maps = np.random.default_rng(0).normal(size=(2, 28, 28))
    outside = np.where(images[..., 0] > 0, maps, 99)
    assert attribution.similarity(maps, -3 * outside, images) == pytest.approx(1)
    assert attribution.similarity(maps, np.exp(-np.abs(maps)), images) == pytest.approx(-1)
    assert attribution.similarity(maps, np.zeros_like(maps), images) == 0


@pytest.mark.slow
def test_random_weights_change_the_maps(real_data):
    """The sanity check of Adebayo and others, on the network that comes with the project."""
    test = data.load(real_data).test
    run = runs.BEST
    check = attribution.randomisation_check(
        run, runs.load_model(run), test.images[:6], test.labels[:6]
    )
    for similarities in check.values():
        assert similarities.keys() == {"classifier", "all layers"}
    assert max(map(abs, check["Grad-CAM"].values())) < 0.4
    assert abs(check["HiResCAM"]["all layers"]) < 0.4
    # With random classifiers, HiResCAM keeps the features, integrated gradients keep the pixels.
    assert abs(check["HiResCAM"]["classifier"]) < 0.6
    assert max(check["integrated gradients"].values()) < 0.6


def test_the_sanity_check_detects_a_map_that_ignores_the_network(monkeypatch):
    """A map of edges, for example, depends on the image only."""
    monkeypatch.setattr(
        attribution,
        "METHODS",
        {"edges": lambda members, images, classes: tf.square(images[..., 0])},
    )
    check = attribution.randomisation_check(
        RUN, build_model("dropout_cnn", width=0.25), IMAGES, CLASSES
    )
    assert check == {"edges": {"classifier": pytest.approx(1), "all layers": pytest.approx(1)}}
