"""Attribution: which pixels of an image the logit of a class depends on.

Common arguments:
    members: members of a network, see activations.py. Their maps are averaged; class activation
        maps lose their negative values after that.
    images: (N, 28, 28, 1).
    classes: class (N,) whose logit is explained, for every image.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import spearmanr

from fmnist.evaluation.activations import Member, inspected_members
from fmnist.networks import initialise, members_of

RANDOMISED = ("classifier", "all layers")  # the layers with random kernels
STEPS = 32  # points on the path of integrated gradients

Attribution = Callable[[Sequence[Member], np.ndarray, np.ndarray], np.ndarray]


def grad_cam(members: Sequence[Member], images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return class activation maps (N, 28, 28), non-negative, by Grad-CAM.

    A map is the sum of the feature maps, each weighted by its mean gradient, without negative
    values, and enlarged to the size of the image. The mean assumes that the network treats all
    positions alike, as with global average pooling. Where a dense layer follows the feature maps,
    the map may be wrong or empty. Selvaraju and others, "Grad-CAM: Visual Explanations from Deep
    Networks via Gradient-based Localization", https://arxiv.org/abs/1610.02391
    """
    return _class_activation(members, images, classes, mean_gradients=True)


def hires_cam(members: Sequence[Member], images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return class activation maps (N, 28, 28), non-negative, by HiResCAM.

    Unlike in Grad-CAM, every position of a feature map is weighted by its own gradient. Directly
    before a linear classifier, the map before enlargement adds up to the logit; elsewhere it is an
    approximation. Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of
    convolutional neural networks", https://arxiv.org/abs/2011.08891
    """
    return _class_activation(members, images, classes, mean_gradients=False)


def _class_activation(
    members: Sequence[Member], images: np.ndarray, classes: np.ndarray, mean_gradients: bool
) -> np.ndarray:
    """Return the maps of grad_cam() or hires_cam()."""
    images = tf.constant(images)
    maps = []
    for member in members:
        with tf.GradientTape() as tape:
            tape.watch(images)
            _, activation, _, logits = member(images)
            explained = tf.gather(logits, classes, batch_dims=1)
        weights = tape.gradient(explained, activation)
        if mean_gradients:
            weights = tf.reduce_mean(weights, axis=(1, 2), keepdims=True)
        weighted = tf.reduce_sum(weights * activation, axis=-1, keepdims=True)
        maps.append(tf.image.resize(weighted, images.shape[1:3])[..., 0].numpy())
    return np.maximum(np.mean(maps, axis=0), 0)


def integrated_gradients(
    members: Sequence[Member], images: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Return the contribution (N, 28, 28) of every pixel to the logit, by integrated gradients.

    The contributions of an image add up to the difference of its logit from that of a black image.
    Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks",
    https://arxiv.org/abs/1703.01365
    """
    # Gauss–Legendre quadrature of the gradients on the path from black to the image.
    points, weights = np.polynomial.legendre.leggauss(STEPS)
    fractions = tf.constant((points + 1) / 2, tf.float32)
    weights = tf.constant(weights / 2, tf.float32)
    maps = []
    for image, label in zip(images, classes, strict=True):
        path = fractions[:, None, None, None] * image
        gradients = []
        for member in members:
            with tf.GradientTape() as tape:
                tape.watch(path)
                logits = member(path).logits[:, label]
            gradients.append(tape.gradient(logits, path))
        mean = tf.tensordot(weights, tf.reduce_mean(gradients, axis=0), axes=1)
        maps.append((image * mean)[..., 0].numpy())
    return np.stack(maps)


METHODS: dict[str, Attribution] = {
    "Grad-CAM": grad_cam,
    "HiResCAM": hires_cam,
    "integrated gradients": integrated_gradients,
}


def randomisation_check(
    run: Path, model: keras.Model, images: np.ndarray, classes: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return how similar the maps of a network remain when its weights become random.

    A map that explains the network must change with the weights; one that only shows the outlines
    of the image stays the same. Adebayo and others, "Sanity Checks for Saliency Maps",
    https://arxiv.org/abs/1810.03292

    Args:
        run: run directory, named in error messages.
        model: model of the run.
        images: (N, 28, 28, 1).
        classes: (N,).

    Returns:
        The mean similarity() of the maps of both models, by method and by the kernels that are
        random, see RANDOMISED.
    """
    trained, *others = (
        inspected_members(run, other)
        for other in (model, randomised(model, classifier_only=True), randomised(model))
    )
    similarities = {}
    for name, method in METHODS.items():
        maps = method(trained, images, classes)
        similarities[name] = {
            kernels: similarity(maps, method(members, images, classes), images)
            for kernels, members in zip(RANDOMISED, others, strict=True)
        }
    return similarities


def randomised(model: keras.Model, classifier_only: bool = False) -> keras.Model:
    """Return a copy of a model with random kernels, of all layers or of the classifiers only."""
    copy = keras.models.clone_model(model)
    initialise(copy, seed=0)
    kept = [layer.kernel.numpy() for layer in classifiers(copy)]
    if classifier_only:
        copy.set_weights(model.get_weights())
        for layer, kernel in zip(classifiers(copy), kept, strict=True):
            layer.kernel.assign(kernel)
    return copy


def classifiers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the last layer of every member of a model."""
    return [member.layers[-1] for member in members_of(model)]


def similarity(maps: np.ndarray, others: np.ndarray, images: np.ndarray) -> float:
    """Return the mean rank correlation between the sizes of two maps on the item in an image.

    The black background does not count: integrated gradients are always zero there.

    Args:
        maps: (N, 28, 28).
        others: (N, 28, 28).
        images: (N, 28, 28, 1).
    """
    correlations = []
    for first, second, image in zip(np.abs(maps), np.abs(others), images[..., 0], strict=True):
        values = first[image > 0], second[image > 0]
        constant = any(np.ptp(value) == 0 for value in values)  # shows no place at all
        correlations.append(0.0 if constant else spearmanr(*values).statistic)
    return float(np.mean(correlations))
