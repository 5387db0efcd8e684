"""Test-time augmentation (TTA): views of an image whose mean output is more accurate."""

import itertools
from collections.abc import Iterator

import numpy as np

from fmnist.training.augmentation import SHIFT


def views(images: np.ndarray, flips: bool, shifts: bool) -> Iterator[np.ndarray]:
    """Yield the views of images: 1, 2, 9 or 18 arrays (N, 28, 28, 1).

    The first view is the original images. The mean output is more accurate if the network was
    trained with the same augmentation.

    Args:
        images: (N, 28, 28, 1).
        flips: yield every view also mirrored, directly after it.
        shifts: yield the images also shifted by SHIFT pixels in eight directions.
    """
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)])
    for down, right in itertools.product((0, SHIFT, -SHIFT) if shifts else (0,), repeat=2):
        shifted = padded[:, SHIFT - down :, SHIFT - right :][:, :height, :width]
        yield shifted
        if flips:
            yield shifted[:, :, ::-1]
