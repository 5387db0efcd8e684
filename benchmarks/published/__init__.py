"""Recipes that other projects publish, written from their descriptions, for benchmarks.peers.

A recipe trains on images (N, 28, 28, 1) in [0, 1] with labels (N,), a random seed and a number of
epochs, and returns a Trained.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Trained(NamedTuple):
    """A trained classifier.

    Attributes:
        predict: function that returns the class scores (N, 10) of images (N, 28, 28, 1).
        parameters: number of trained parameters; None where this number is not fixed.
        stall: seconds that the training waited for the end of its input pipeline.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    parameters: int | None = None
    stall: float = 0.0
