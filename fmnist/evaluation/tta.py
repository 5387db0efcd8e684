"""Test-time augmentation: the mean output for several views of an image is more accurate."""

import itertools
from collections.abc import Iterator

import numpy as np

from fmnist.training.augmentation import SHIFT


def views(images: np.ndarray, flips: bool, shifts: bool) -> Iterator[np.ndarray]:
    """Yield images (N, 28, 28, 1) as they are, then mirrored, then moved, and moved and mirrored.

    The mean output helps a network that was trained on such images.

    Args:
        images: (N, 28, 28, 1).
        flips: whether mirrored images are wanted.
        shifts: whether images moved by SHIFT pixels, in eight directions, are wanted.
    """
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)])
    for down, right in itertools.product((0, SHIFT, -SHIFT) if shifts else (0,), repeat=2):
        moved = padded[:, SHIFT - down :, SHIFT - right :][:, :height, :width]
        yield moved
        if flips:
            yield moved[:, :, ::-1]
