"""Find, read, classify and draw picture files."""

import itertools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.progress
from rich.console import Console

from fmnist import atomic_io, cli
from fmnist.figure_style import default_style
from fmnist.inference import photo
from fmnist.inference.classifier import BATCH, Classifier, prediction
from fmnist.source import CLASS_NAMES
from tools.prediction.figures import photographs

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
ON_A_FIGURE = 6


class PictureError(cli.UserError):
    """A folder contains no picture."""


def find(names: Sequence[str]) -> list[Path]:
    """Return the paths of files and of all pictures in folders and their subfolders.

    Raises PictureError.
    """
    found = []
    for path in map(Path, names):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise PictureError(
                    f"{path} contains no {', '.join(SUFFIXES)} file, or cannot be read"
                )
            found += inside
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def predict(
    paths: Sequence[Path], classifier: Classifier, figures: Path | None = None
) -> tuple[dict[Path, dict[str, Any]], dict[Path, str]]:
    """Return predictions of picture files, and the reasons why others cannot be read, by path.

    Args:
        paths: paths of the picture files.
        classifier: result of classifier.load_classifier().
        figures: folder for figures of the predictions; None for no figures.
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
        probabilities, warnings = classifier.classify(list(photos.values()))
        predictions |= {
            path: prediction(*result)
            for path, *result in zip(photos, photos.values(), probabilities, warnings, strict=True)
        }
        if figures:
            drawn += zip(photos.items(), probabilities, strict=True)
    if drawn:
        draw(figures, drawn, predictions)
    return predictions, unreadable


@default_style()
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
                f"{path.name} (uncertain)" if predictions[path]["uncertain"] else path.name
                for (path, _), _ in part
            ]
            figure = photographs(
                [converted for (_, converted), _ in part],
                [probabilities for _, probabilities in part],
                titles,
                CLASS_NAMES,
            )
            figure.savefig(temporary / f"predictions-{page}.png", dpi=110)
    for page in itertools.count(len(pages) + 1):  # from an earlier call with more pictures
        if not (path := folder / f"predictions-{page}.png").exists():
            break
        path.unlink()


def track(items: Sequence[Any], description: str) -> Iterable[Any]:
    """Return the items, with a progress bar if there are many and output is a terminal."""
    return rich.progress.track(
        items,
        description,
        console=Console(stderr=True),
        transient=True,
        disable=len(items) < 20 or not sys.stderr.isatty(),
    )
