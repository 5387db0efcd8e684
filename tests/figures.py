"""Small arrays to draw, and ways to look into a figure."""

import io

import numpy as np

NAMES = ("left", "middle", "right")
RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 28, 28, 1))
LABELS = RNG.integers(0, 3, 40)
SHARES = RNG.dirichlet([0.3] * 3, 40)
CORRECT = SHARES.argmax(axis=1) == LABELS


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def pictures(figure):
    return [axes for axes in figure.axes if axes.images]


def pictures_of(figure):
    return [axes.images[0].get_array() for axes in pictures(figure)]
