import keras
import numpy as np
import pytest

from fmnist.config import TrainConfig
from fmnist.training.optimizers import ConvolutionMuon, build_optimizer, learning_rate
from model import build_model


def step_of(optimizer, variable, gradient):
    """Return the change of a variable in a single step."""
    before = variable.numpy()
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor(gradient)])
    return variable.numpy() - before


@pytest.mark.parametrize("shape", [(3, 3, 16, 32), (3, 3, 1, 32), (20, 7)])
def test_the_singular_values_of_a_muon_step_are_about_equal(shape):
    gradient = np.random.default_rng(0).normal(size=shape).astype("float32")
    gradient[..., 0] *= 100  # a single output dominates the gradient
    step = step_of(
        ConvolutionMuon(0.01, weight_decay=0.0), keras.Variable(np.zeros(shape)), gradient
    )
    matrix = step.reshape(-1, shape[-1])
    singular_values = np.linalg.svd(-matrix, compute_uv=False)
    singular_values /= 0.01 * 0.2 * np.sqrt(max(matrix.shape))
    assert 0.6 < singular_values.min() and singular_values.max() < 1.3
    assert (
        np.linalg.svd(gradient.reshape(matrix.shape), compute_uv=False)[[0, -1]] / [20, 1] > 1
    ).all()


@pytest.mark.parametrize("rank", [3, 100])
@pytest.mark.parametrize("shape", [(3, 3, 16, 32), (3, 3, 1, 32), (200, 100), (100, 200)])
def test_muon_steps_are_those_of_keras(shape, rank):
    muon = ConvolutionMuon(0.01)
    height, width = int(np.prod(shape[:-1])), shape[-1]
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(height, rank)) @ rng.normal(size=(rank, width))
    matrix = keras.ops.cast(matrix, "float32")
    expected = super(ConvolutionMuon, muon).zeropower_via_newtonschulz5(matrix, muon.ns_steps)
    actual = muon.zeropower_via_newtonschulz5(keras.ops.reshape(matrix, shape), muon.ns_steps)
    assert actual.shape == shape
    scale = np.sqrt(np.mean(np.square(expected)))
    np.testing.assert_allclose(
        keras.ops.reshape(actual, matrix.shape) / scale, expected / scale, atol=0.01
    )


def test_biases_and_the_classifier_are_updated_by_adamw():
    for shape, name in (((8,), "bias"), ((20, 10), "classifier")):
        gradient = np.random.default_rng(0).normal(size=shape).astype("float32")
        muon = ConvolutionMuon(
            0.01, weight_decay=0.1, adam_weight_decay=0.1, exclude_layers=["classifier"]
        )
        adamw = keras.optimizers.AdamW(0.01, weight_decay=0.1)
        by_muon, by_adamw = (
            step_of(optimizer, keras.Variable(np.ones(shape), name=name), gradient)
            for optimizer in (muon, adamw)
        )
        np.testing.assert_allclose(by_muon, by_adamw, rtol=1e-4)


def test_weight_decay_affects_only_kernels():
    config = TrainConfig(recipe="quick", weight_decay=1)
    model = build_model(config.model)
    optimizer = build_optimizer(config, steps_per_epoch=10)
    optimizer.build(model.trainable_variables)
    for weight in model.trainable_variables:
        weight.assign(weight + 1)
    before = [weight.numpy() for weight in model.trainable_variables]
    optimizer.apply([keras.ops.zeros(weight.shape) for weight in model.trainable_variables])
    for weight, value in zip(model.trainable_variables, before, strict=True):
        assert np.array_equal(weight, value) == (weight.name != "kernel")


def test_one_cycle_rises_linearly_to_the_peak_and_falls_linearly_to_zero():
    schedule = learning_rate(TrainConfig(schedule="one-cycle", learning_rate=1.0, epochs=4), 10)
    values = [float(schedule(step)) for step in range(41)]
    assert (
        values[0] == pytest.approx(1 / 25)
        and int(np.argmax(values)) == 8
        and max(values) == pytest.approx(1)
    )
    np.testing.assert_allclose(np.diff(values[8:]), -1 / 32, rtol=1e-4)
