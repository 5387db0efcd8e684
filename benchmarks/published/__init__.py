"""Recipes that other projects publish, written from their descriptions, for benchmarks.peers.

A recipe trains on images (N, 28, 28, 1) in [0, 1] with labels (N,) and a random seed, and returns a
Trained. Its other arguments are settings, such as the number of epochs.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Trained(NamedTuple):
    """A trained classifier.

    Attributes:
        predict: function that returns the class scores (N, 10) of images (N, 28, 28, 1).
        parameters: number of trained parameters; None where this number is not fixed.
        not_counted: seconds of the call that are not training: compilation, or waiting for the end
            of the input pipeline.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    parameters: int | None = None
    not_counted: float = 0.0
