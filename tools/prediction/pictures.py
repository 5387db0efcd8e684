"""Picture files: found, read, classified and drawn."""

import itertools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.progress
from rich.console import Console

from fmnist import atomic_io, cli
from fmnist.inference import photo
from fmnist.inference.classifier import BATCH, Classifier, prediction
from fmnist.source import CLASS_NAMES
from tools.prediction.figures import photographs

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
ON_A_FIGURE = 6


class PictureError(cli.UserError):
    """A folder holds no picture."""


def find(names: Sequence[str]) -> list[Path]:
    """Return the paths of files, and of the pictures in folders, which are searched to their depth.

    Raises PictureError.
    """
    found = []
    for path in map(Path, names):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise PictureError(f"{path} holds no {', '.join(SUFFIXES)} file, or cannot be read")
            found += inside
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def predict(
    paths: Sequence[Path], classifier: Classifier, figures: Path | None = None
) -> tuple[dict[Path, dict[str, Any]], dict[Path, str]]:
    """Return the predictions of picture files, and why others cannot be read, by their path.

    Args:
        paths: of the files.
        classifier: of classifier.load_classifier().
        figures: a folder for figures of them; none where it is None.
    """
    predictions, unreadable, drawn = {}, {}, []
    for start in range(0, len(paths), BATCH):
        photos = {}
        for path in track(
            paths[start : start + BATCH], f"Pictures from {start + 1:,} of {len(paths):,}"
        ):
            try:
                photos[path] = photo.read(path)
            except (photo.PhotoError, OSError) as error:
                unreadable[path] = getattr(error, "strerror", None) or cli.one_line(error)
        if not photos:
            continue
        probabilities, doubts = classifier.classify(list(photos.values()))
        predictions |= {
            path: prediction(*result)
            for path, *result in zip(photos, probabilities, doubts, strict=True)
        }
        if figures:
            drawn += zip(photos.items(), probabilities, strict=True)
    if drawn:
        draw(figures, drawn, predictions)
    return predictions, unreadable


def draw(
    folder: Path,
    drawn: Sequence[tuple[tuple[Path, photo.Photo], np.ndarray]],
    predictions: dict[Path, dict[str, Any]],
) -> None:
    """Write figures of ON_A_FIGURE photographs each.

    drawn: pairs of (path, Photo) and probabilities.
    """
    with atomic_io.atomic_writes(folder) as temporary:
        pages = range(0, len(drawn), ON_A_FIGURE)
        for page, start in enumerate(track(pages, "Figures"), 1):
            part = drawn[start : start + ON_A_FIGURE]
            titles = [
                f"{path.name} (unsure)" if predictions[path]["unsure"] else path.name
                for (path, _), _ in part
            ]
            figure = photographs(
                [converted for (_, converted), _ in part],
                [probabilities for _, probabilities in part],
                titles,
                CLASS_NAMES,
            )
            figure.savefig(temporary / f"predictions-{page}.png", dpi=110)
    for page in itertools.count(len(pages) + 1):  # of an earlier call, with more pictures
        if not (path := folder / f"predictions-{page}.png").exists():
            break
        path.unlink()


def track(items: Sequence[Any], description: str) -> Iterable[Any]:
    """Return the items, with a progress bar on the terminal where they are many."""
    return rich.progress.track(
        items,
        description,
        console=Console(stderr=True),
        transient=True,
        disable=len(items) < 20 or not sys.stderr.isatty(),
    )
