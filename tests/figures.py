"""Small arrays to plot, and functions that inspect a figure."""

import io

import numpy as np

NAMES = ("left", "middle", "right")
RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 28, 28, 1))
LABELS = RNG.integers(0, 3, 40)
PROBABILITIES = RNG.dirichlet([0.3] * 3, 40)
CORRECT = PROBABILITIES.argmax(axis=1) == LABELS


def pixels(figure):
    """Return the pixel values of the rendered figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def image_axes(figure):
    """Return the axes that show an image."""
    return [axes for axes in figure.axes if axes.images]


def image_arrays(figure):
    """Return the images of a figure as arrays."""
    return [image.get_array() for axes in figure.axes for image in axes.images]
