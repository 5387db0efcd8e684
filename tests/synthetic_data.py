"""Small made data that stands in for Fashion-MNIST, with check sums of its own."""

import gzip
import hashlib

import numpy as np

from fmnist import source

TRAIN, TEST = 600, 200


def made_arrays(seed=0, random_labels=False):
    """Ten classes of noisy stripes, that a network learns in an epoch; no two images are equal."""
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
    arrays[-1][::20] = (arrays[-1][::20] + 1) % 10  # some mistakes for the figures to show
    return arrays


def idx_bytes(array):
    return np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes() + array.tobytes()


def write_folder(folder, arrays):
    """Write the four files and return what source.FILES has to say of them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, array in zip(source.FILES, arrays, strict=True):
        content = idx_bytes(array)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        files[name] = source.File(array.shape, hashlib.sha256(content).hexdigest())
    return files
