"""Small synthetic data that replaces Fashion-MNIST, with its own checksums."""

import gzip
import hashlib

import numpy as np

from fmnist import source

TRAIN, TEST = 600, 200
# Options of train_cnn.py with which a network learns the synthetic data in a few epochs.
OPTIONS = [
    *("--optimizer", "adam", "--learning-rate", "0.003", "--schedule", "plateau"),
    *("--ema-epochs", "0.5", "--label-smoothing", "0", "--prune-every", "1"),
]


def make_arrays(seed=0, random_labels=False):
    """Return training images and labels, test images and labels, all uint8.

    A class is the position of a noisy stripe, which a network learns in one epoch. All images are
    different.
    """
    rng = np.random.default_rng(seed)
    arrays = []
    for count in (TRAIN, TEST):
        labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 60, (count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 2 : 2 * label + 6] += 190
        if random_labels:
            labels = rng.permutation(labels)
        arrays += [images, labels]
    arrays[-1][::20] = (arrays[-1][::20] + 1) % 10  # wrong labels, so that figures show mistakes
    return arrays


def idx_bytes(array):
    return np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes() + array.tobytes()


def write_dataset(folder, arrays):
    """Write the four data files and return their shapes and checksums, a value for source.FILES."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, array in zip(source.FILES, arrays, strict=True):
        content = idx_bytes(array)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        files[name] = source.File(array.shape, hashlib.sha256(content).hexdigest())
    return files
