"""Find, read, classify and draw picture files."""

import itertools
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmnist import atomic_io, cli
from fmnist.figure_style import default_style
from fmnist.inference import photo
from fmnist.inference.classifier import BATCH, PhotoClassifier, prediction
from fmnist.inference.picture_file import PhotoError
from fmnist.progress import track
from fmnist.source import CLASS_NAMES
from tools.prediction.figures import photographs

ON_A_FIGURE = 6
LONGEST_NAME = 24  # characters of a title


class PictureError(cli.UserError):
    """A folder contains no files."""


def find(names: Sequence[str]) -> list[Path]:
    """Return the paths of files and of all files in folders and their subfolders.

    Hidden files and folders are left out. Among them are the resource files of macOS, such as
    ._IMG.jpg, which are not pictures. Raises PictureError.
    """
    found = []
    for path in map(Path, names):
        if path.is_dir():
            inside = [file for file in path.rglob("*") if not is_hidden(file.relative_to(path))]
            files = sorted(file for file in inside if can_be_opened(file))
            if not files:
                raise PictureError(f"{path} contains no files, or cannot be read")
            found += files
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def is_hidden(path: Path) -> bool:
    """Return whether a relative path contains a hidden file or folder."""
    return any(part.startswith(".") for part in path.parts)


def can_be_opened(path: Path) -> bool:
    """Return whether a path is a file, and not a folder or a pipe, which would block.

    A path without permission counts as a file, so that reading it gives the reason.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def predict(
    paths: Sequence[Path], classifier: PhotoClassifier, keep_photos: bool = False
) -> tuple[dict[Path, dict[str, Any]], dict[Path, str], dict[Path, photo.Photo]]:
    """Classify picture files.

    Args:
        paths: paths of the picture files.
        classifier: result of classifier.load_photo_classifier().
        keep_photos: whether to return the photos for draw(); they need memory.

    Returns:
        predictions: result of classifier.prediction() by path.
        unreadable: reasons why other files cannot be read, by path.
        kept: photos by path; empty without keep_photos.
    """
    predictions, unreadable, kept = {}, {}, {}
    for start in range(0, len(paths), BATCH):
        photos = {}
        for path in track(
            paths[start : start + BATCH], f"Pictures from {start + 1:,} of {len(paths):,}"
        ):
            try:
                photos[path] = classifier.read(path)
            except (PhotoError, OSError) as error:
                unreadable[path] = getattr(error, "strerror", None) or cli.one_line(error)
        if not photos:
            continue
        outcomes = classifier.classify(list(photos.values()))
        predictions |= {
            path: prediction(photos[path], outcome)
            for path, outcome in zip(photos, outcomes, strict=True)
        }
        if keep_photos:
            kept |= photos
    return predictions, unreadable, kept


@default_style()
def draw(
    folder: Path, photos: dict[Path, photo.Photo], predictions: dict[Path, dict[str, Any]]
) -> None:
    """Write figures of ON_A_FIGURE photographs each.

    Args:
        folder: folder for the figures, created if necessary.
        photos: photos by path.
        predictions: result of classifier.prediction() by path.
    """
    with atomic_io.atomic_writes(folder) as temporary:
        pages = range(0, len(photos), ON_A_FIGURE)
        for page, start in enumerate(track(pages, "Figures"), 1):
            part = dict(itertools.islice(photos.items(), start, start + ON_A_FIGURE))
            shown = [predictions[path] for path in part]
            titles = [
                shortened(path.name) + (" (uncertain)" if prediction["uncertain"] else "")
                for path, prediction in zip(part, shown, strict=True)
            ]
            figure = photographs(
                [*part.values()],
                [
                    np.array(
                        [*(prediction["probabilities"] or dict.fromkeys(CLASS_NAMES, 0)).values()]
                    )
                    for prediction in shown
                ],
                titles,
                CLASS_NAMES,
            )
            figure.savefig(temporary / f"predictions-{page}.png", dpi=110)
    for page in itertools.count(len(pages) + 1):  # from an earlier call with more pictures
        if not (path := folder / f"predictions-{page}.png").exists():
            break
        path.unlink()


def probabilities_of(prediction: dict[str, Any]) -> np.ndarray:
    """Return the class probabilities (10,) of a prediction; all zero if no item was found."""
    if prediction["probabilities"] is None:
        return np.zeros(len(CLASS_NAMES))
    return np.array([*prediction["probabilities"].values()])


def shortened(name: str) -> str:
    """Return a file name, without its middle if it is too long for a title."""
    return name if len(name) <= LONGEST_NAME else f"{name[:10]}…{name[11 - LONGEST_NAME :]}"
