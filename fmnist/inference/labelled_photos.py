"""Folders of labelled photographs: their classes, and who took them.

A folder, or the CSV file itself, has one of these forms:
    subfolders named after classes, such as "Ankle boot" or t-shirt-top
    labels.csv or train.csv with the columns file and label, and optionally sender, set and kind
    images.csv and the folder images, as in https://github.com/alexeygrigorev/clothing-dataset

The label "shoe" stands for any of the three classes of shoes.
"""

import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fmnist import cli
from fmnist.inference.picture_file import PhotoError, decode
from fmnist.source import CLASS_NAMES

SHOE = "shoe"
SHOES = ("Sandal", "Sneaker", "Ankle boot")
CSV_FILES = ("labels.csv", "train.csv", "images.csv")
# The labels of the clothing dataset that correspond to classes of Fashion-MNIST. The others, such
# as Shorts and Hat, have no class.
CLOTHING_DATASET = {
    "T-Shirt": "T-shirt/top",
    "Polo": "T-shirt/top",
    "Longsleeve": "Pullover",
    "Hoodie": "Pullover",
    "Pants": "Trouser",
    "Dress": "Dress",
    "Outwear": "Coat",
    "Shirt": "Shirt",
    "Shoes": SHOE,
}


class LabelError(cli.UserError):
    """The labels of a folder cannot be used."""


class Labelled(NamedTuple):
    """A labelled picture file.

    Attributes:
        path: path of the file.
        classes: indices of the classes that the label stands for.
        sender: who took the picture; the file itself if that is unknown.
        set, kind: groups to which the picture belongs; may be empty.
    """

    path: Path
    classes: tuple[int, ...]
    sender: str
    set: str = ""
    kind: str = ""


def load(folder: Path) -> list[Labelled]:
    """Return the labelled pictures of a folder, or those of a CSV file. Raises LabelError."""
    if not folder.is_dir():
        return from_csv(folder)
    for name in CSV_FILES:
        if (folder / name).is_file():
            return from_csv(folder / name)
    pictures = from_subfolders(folder)
    if not pictures:
        raise LabelError(
            f"{folder} contains neither {', '.join(CSV_FILES[:-1])} or {CSV_FILES[-1]}, nor "
            f"subfolders named after classes: {', '.join(CLASS_NAMES)}, {SHOE}"
        )
    return pictures


def read(folder: Path) -> tuple[list[Labelled], list[np.ndarray]]:
    """Return the labelled pictures of load() that can be read, and their pixels.

    The pixels of a picture are (height, width, 3) uint8. The others are listed on standard error.
    Raises LabelError.
    """
    labelled, pictures = [], []
    for picture in load(folder):
        try:
            pictures.append(decode(picture.path))
        except (PhotoError, OSError) as error:
            reason = getattr(error, "strerror", None) or cli.one_line(error)
            print(f"skipped {picture.path}: {reason}", file=sys.stderr)
        else:
            labelled.append(picture)
    if not pictures:
        raise LabelError(f"none of the labelled pictures in {folder} can be read")
    return labelled, pictures


def from_subfolders(folder: Path) -> list[Labelled]:
    """Return the files in subfolders that are named after classes."""
    by_name = {simple(label): label for label in (*CLASS_NAMES, SHOE)}
    return [
        Labelled(path, classes_of(by_name[simple(subfolder.name)]), str(path))
        for subfolder in sorted(folder.glob("*/"))
        if simple(subfolder.name) in by_name
        for path in sorted(subfolder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]


def simple(name: str) -> str:
    """Return a name in lower case, without spaces and punctuation."""
    return re.sub("[^a-z]", "", name.lower())


def from_csv(path: Path) -> list[Labelled]:
    """Return the pictures of a CSV file. Raises LabelError."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path} cannot be read ({cli.one_line(error)})") from None
    columns = rows[0].keys() if rows else set()
    if {"image", "label"} <= columns:
        return from_clothing_dataset(path.parent / "images", rows)
    if not {"file", "label"} <= columns:
        raise LabelError(f"{path} needs the columns file and label, and at least one row")
    pictures = []
    for number, row in enumerate(rows, 2):
        if not row["file"] or row["label"] not in (*CLASS_NAMES, SHOE):
            raise LabelError(
                f"{path}, line {number}: the label must be one of {', '.join(CLASS_NAMES)} or "
                f"{SHOE}, and not {cli.one_line(row['label'])}"
            )
        file = path.parent / row["file"]
        sender = row.get("sender") or str(file)
        pictures.append(
            Labelled(
                file, classes_of(row["label"]), sender, row.get("set") or "", row.get("kind") or ""
            )
        )
    return pictures


def from_clothing_dataset(folder: Path, rows: Sequence[dict[str, str]]) -> list[Labelled]:
    """Return the pictures of the clothing dataset that have a class. Those of children have none.

    Args:
        folder: folder with the pictures.
        rows: rows of images.csv.
    """
    return [
        Labelled(
            folder / f"{row['image']}.jpg",
            classes_of(CLOTHING_DATASET[row["label"]]),
            row.get("sender_id") or row["image"],
        )
        for row in rows
        if row["label"] in CLOTHING_DATASET and row.get("kids") != "True"
    ]


def classes_of(label: str) -> tuple[int, ...]:
    """Return the indices of the classes that a label stands for."""
    return tuple(CLASS_NAMES.index(name) for name in (SHOES if label == SHOE else (label,)))
