"""The kinds of shoes in the clothing dataset, whose labels only say Shoes.

shoes.csv has the kind of the photographs in which it is clear, as seen by eye. A photograph is
recognised by its average hash, because its file may be reduced or compressed again:
https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html
"""

import csv
import functools
from pathlib import Path

import numpy as np
from PIL import Image

from fmnist.inference.labelled_photos import SHOE, Labelled, classes_of

FILE = Path(__file__).parent / "shoes.csv"
SIDE = 16  # height and width of a hash, in bits
MOST_DIFFERENT = 12  # bits that may differ in another file of the same photograph


def average_hash(picture: np.ndarray) -> np.ndarray:
    """Return whether each of 16 × 16 parts of a picture is lighter than the mean, (256,)."""
    grey = Image.fromarray(picture).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, np.float32).ravel()
    return values > values.mean()


@functools.cache
def known() -> tuple[np.ndarray, list[str]]:
    """Return the hashes (N, 256) bool and the labels (N) of shoes.csv."""
    with open(FILE, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    hashes = [np.unpackbits(np.frombuffer(bytes.fromhex(row["hash"]), np.uint8)) for row in rows]
    return np.array(hashes, bool), [row["label"] for row in rows]


def with_kind(labelled: Labelled, picture: np.ndarray) -> Labelled:
    """Return the labelled picture with the kind of its shoes, if it is known.

    Args:
        labelled: the picture file and its label.
        picture: its pixels (height, width, 3) uint8.
    """
    if labelled.classes != classes_of(SHOE):
        return labelled
    hashes, labels = known()
    different = (hashes != average_hash(picture)).sum(axis=1)
    if different.min() > MOST_DIFFERENT:
        return labelled
    return labelled._replace(classes=classes_of(labels[different.argmin()]))
