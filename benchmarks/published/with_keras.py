"""Published recipes that use Keras."""

import functools

import keras
import numpy as np
from keras import layers

from benchmarks.published import Trained
from benchmarks.speed_worker import timed_fit
from fmnist import networks


def simple_convnet(images: np.ndarray, labels: np.ndarray, seed: int, epochs: int) -> Trained:
    """Train "Simple MNIST convnet".

    Source: https://keras.io/examples/vision/mnist_convnet/
    """
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    targets = keras.utils.to_categorical(labels)
    stall = sum(
        timed_fit(model, len(images), x=images, y=targets, batch_size=128)["stall"]
        for _ in range(epochs)
    )
    return Trained(functools.partial(networks.predict, model), model.count_params(), stall)
