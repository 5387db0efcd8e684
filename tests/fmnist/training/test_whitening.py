import numpy as np
import pytest

from fmnist.networks import members_of
from fmnist.training.whitening import whiten
from model import build_model


def test_the_outputs_of_the_whitening_layer_are_uncorrelated_with_variance_one():
    model = build_model("deep_cnn", ensemble_size=2)
    random = np.random.default_rng(0)
    images = random.random((50, 7, 7, 1), np.float32).repeat(4, axis=1).repeat(4, axis=2)
    images = (images + random.random((50, 28, 28, 1), np.float32)) / 2
    whiten(model, images)
    for member in members_of(model):
        rescaling, layer = member.layers[:2]
        first, second = np.split(
            np.asarray(layer(rescaling(images)))[:, 1:-1, 1:-1].reshape(-1, 18), 2, axis=1
        )
        np.testing.assert_allclose(second, -first, atol=1e-5)
        covariance = first.T @ first / len(first)
        np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-3)
        assert (
            np.diag(covariance).max() == pytest.approx(1, abs=0.01)
            and np.diag(covariance).min() > 0.9
        )
        assert not layer.trainable
