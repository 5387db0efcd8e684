"""Measure the accuracy on labelled photographs, and what is uncertain.

    python -m benchmarks.real_photos FOLDER
    python -m benchmarks.real_photos FOLDER --run pretrained/best

FOLDER contains pictures and labels.csv with the columns file and label (one of the ten class
names), and optionally set and kind; or one subfolder per class. Every set, and every kind in a set,
gets a row of the table. The interval of an accuracy is the 95 % confidence interval for the number
of pictures. The confusion matrix, the accuracy against the coverage, the wrong predictions beside
their model inputs, and all results as JSON are written to --output-dir.
"""

import argparse
import contextlib
import datetime
import importlib.util
import itertools
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from fmnist import atomic_io, cli, runs, runtime
from fmnist.evaluation import metrics
from fmnist.figure_style import default_style
from fmnist.inference import labelled_photos
from fmnist.inference.labelled_photos import Labelled
from fmnist.inference.photo import Photo
from fmnist.inference.picture_file import PhotoError, decode
from fmnist.progress import track
from fmnist.source import CLASS_NAMES

SHEET_COLUMNS, SHEET_ROWS = 6, 8  # wrong predictions of a contact sheet
# Colours of Paul Tol's bright scheme, which is safe for colour-blind readers.
COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377")
WARM_UP = 5  # pictures before the measurement of the time


class Results(NamedTuple):
    """The predictions for labelled pictures.

    Attributes:
        photos: the photos (N).
        probabilities: class probabilities (N, 10); all zero where no item was found.
        uncertain: whether the prediction is uncertain, (N,) bool.
        seconds: time to read and to classify a picture, (N,).
    """

    photos: list[Photo]
    probabilities: np.ndarray
    uncertain: np.ndarray
    seconds: np.ndarray


def with_single_classes(folder: Path) -> list[Labelled]:
    """Return the labelled pictures of a folder. Raises LabelError if a label is not one class."""
    pictures = labelled_photos.load(folder)
    if any(len(picture.classes) != 1 for picture in pictures):
        raise labelled_photos.LabelError("every label must be a single class, not shoe")
    return pictures


def measure(paths: Sequence[Path], classifier: Any) -> Results:
    """Return the predictions of a classifier.PhotoClassifier. Raises PhotoError, OSError.

    Args:
        paths: paths of the picture files.
        classifier: classifier.PhotoClassifier.
    """
    photos, probabilities, uncertain, seconds = [], [], [], []
    for path in track(paths, "Pictures"):
        start = time.perf_counter()
        photo = classifier.read(path)
        outcome = classifier.classify([photo])[0]
        seconds.append(time.perf_counter() - start)
        photos.append(photo)
        probabilities.append(outcome.probabilities)
        uncertain.append(outcome.uncertain)
    return Results(photos, np.array(probabilities), np.array(uncertain), np.array(seconds))


def readable(paths: Iterable[Path]) -> list[Path]:
    """Return the paths of the files that are pictures."""
    found = []
    for path in paths:
        with contextlib.suppress(PhotoError):
            decode(path)
            found.append(path)
    return found


def groups(pictures: Sequence[Labelled]) -> dict[tuple[str, str], np.ndarray]:
    """Return the indices of the pictures of every set and, if a set has several, of every kind."""
    found = {}
    for name in dict.fromkeys(picture.set for picture in pictures):
        indices = [index for index, picture in enumerate(pictures) if picture.set == name]
        kinds = dict.fromkeys(pictures[index].kind for index in indices)
        found[name, ""] = np.array(indices)
        if len(kinds) > 1:
            for kind in kinds:
                found[name, kind] = np.array(
                    [index for index in indices if pictures[index].kind == kind]
                )
    return found


def scores(labels: np.ndarray, results: Results) -> dict[str, Any]:
    """Return the scores of a group of pictures as JSON values, None without a picture."""
    probabilities, certain = results.probabilities, ~results.uncertain
    correct = is_correct(labels, probabilities)
    top_3 = (np.argsort(-probabilities, axis=1)[:, :3] == labels[:, None]).any(axis=1)
    return {
        "pictures": len(labels),
        "accuracy": float(correct.mean()),
        "accuracy_interval": metrics.accuracy_interval(float(correct.mean()), len(labels)),
        "top_3_accuracy": float((top_3 & probabilities.any(axis=1)).mean()),
        "uncertain": float(results.uncertain.mean()),
        "no_object": float((~probabilities.any(axis=1)).mean()),
        "certain_accuracy": float(correct[certain].mean()) if certain.any() else None,
        "certain_accuracy_interval": metrics.accuracy_interval(
            float(correct[certain].mean()), int(certain.sum())
        )
        if certain.any()
        else None,
        "median_milliseconds": 1000 * float(np.median(results.seconds)),
        "p95_milliseconds": 1000 * float(np.quantile(results.seconds, 0.95)),
    }


def is_correct(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return whether each prediction is correct, (N,) bool. No object found is not correct."""
    return (probabilities.argmax(axis=1) == labels) & probabilities.any(axis=1)


def part(results: Results, indices: np.ndarray) -> Results:
    """Return the results of some pictures."""
    photos, *arrays = results
    return Results([photos[index] for index in indices], *(array[indices] for array in arrays))


def table(record: dict[str, Any]) -> str:
    """Return the content of results.json as a Markdown table."""

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f}"

    def with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
        if value is None:
            return "–"
        return f"{percent(value)} ({percent(interval[0])} to {percent(interval[1])})"

    lines = [
        "| pictures | number | accuracy, % (95 % interval) | top-3, % | uncertain, % "
        "| accuracy of the others, % | ms a picture, median (95th percentile) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in record["sets"]:
        name = f"{row['set']}, {row['kind']}" if row["kind"] else row["set"]
        lines.append(
            f"| {name} | {row['pictures']} "
            f"| {with_interval(row['accuracy'], row['accuracy_interval'])} "
            f"| {percent(row['top_3_accuracy'])} | {percent(row['uncertain'])} "
            f"| {with_interval(row['certain_accuracy'], row['certain_accuracy_interval'])} "
            f"| {row['median_milliseconds']:.0f} ({row['p95_milliseconds']:.0f}) |"
        )
    if others := record.get("others"):
        uncertain = with_interval(others["uncertain"], others["interval"])
        count = others["pictures"]
        lines.append(f"| other things | {count} | – | – | {uncertain} | – | – |")
    return "\n".join(lines)


def class_scores(
    labels: np.ndarray, sets: np.ndarray, probabilities: np.ndarray
) -> dict[str, dict[str, dict[str, int]]]:
    """Return the numbers of pictures and of correct predictions by class and set."""
    correct, found = is_correct(labels, probabilities), {}
    for label, class_name in enumerate(CLASS_NAMES):
        for name in dict.fromkeys(sets):
            chosen = (sets == name) & (labels == label)
            if chosen.any():
                counts = {"pictures": int(chosen.sum()), "correct": int(correct[chosen].sum())}
                found.setdefault(class_name, {})[str(name)] = counts
    return found


def class_table(record: dict[str, Any]) -> str:
    """Return the accuracy by class and set as a Markdown table, with the number of pictures."""
    names = list(dict.fromkeys(row["set"] for row in record["sets"]))
    lines = [
        f"| class | {' | '.join(name or 'all' for name in names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for class_name, by_set in record["classes"].items():
        cells = [
            f"{100 * by_set[name]['correct'] / by_set[name]['pictures']:.0f} % "
            f"of {by_set[name]['pictures']}"
            if name in by_set
            else "–"
            for name in names
        ]
        lines.append(f"| {class_name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def risk_coverage(correct: np.ndarray, confidences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coverages and the accuracy of as many most confident predictions, (N,) each."""
    ranked = correct[np.argsort(-confidences, kind="stable")]
    counts = np.arange(1, len(ranked) + 1)
    return counts / len(ranked), np.cumsum(ranked) / counts


def coverage_figure(
    curves: dict[str, tuple[np.ndarray, np.ndarray]], points: dict[str, tuple[float, float | None]]
) -> Figure:
    """Plot the accuracy of the most confident predictions against their fraction.

    Args:
        curves: results of risk_coverage() by set.
        points: fraction and accuracy of the predictions that are not uncertain, by set.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    styles = itertools.cycle(("-", "--", ":", "-."))
    for (name, (coverage, accuracy)), colour in zip(
        curves.items(), itertools.cycle(COLOURS), strict=False
    ):
        shown = coverage >= min(0.05, coverage[-1])  # the first few predictions are mostly noise
        axes.plot(coverage[shown], accuracy[shown], next(styles), color=colour, label=name)
        covered, covered_accuracy = points[name]
        if covered_accuracy is not None:
            axes.plot(covered, covered_accuracy, "o", color=colour)
    axes.set(
        xlabel="Coverage: fraction of the pictures, the most confident first",
        ylabel="Accuracy",
        xlim=(0, 1.02),
        ylim=(max(0, min(accuracy.min() for _, accuracy in curves.values()) - 0.05), 1.02),
        title="Accuracy against coverage (dots: predictions that are not uncertain)",
    )
    axes.legend(loc="lower left")
    return figure


def wrong_figure(photos: Sequence[Photo], titles: Sequence[str]) -> Figure:
    """Return a contact sheet of pictures beside their model inputs.

    Args:
        photos: at most SHEET_COLUMNS * SHEET_ROWS photos.
        titles: titles of the pictures.
    """
    rows = max(1, -(-len(photos) // SHEET_COLUMNS))
    figure = Figure(figsize=(2.3 * SHEET_COLUMNS, 1.45 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * SHEET_COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for photo, title, (picture, model_input) in zip(
        photos, titles, grid.reshape(-1, 2), strict=False
    ):
        picture.imshow(photo.picture)
        if photo.mask is not None and not photo.mask.all():
            picture.contour(photo.mask, [0.5], colors="#ee3377", linewidths=1)
        picture.set_title(title, fontsize=7, loc="left")
        if len(photo.images):
            model_input.imshow(photo.images[-1, ..., 0], cmap="gray", vmin=0, vmax=1)
    return figure


def draw(
    folder: Path, pictures: Sequence[Labelled], results: Results
) -> dict[tuple[str, str], dict[str, Any]]:
    """Write the figures, and return the scores by set and kind."""
    import plots

    labels = np.array([picture.classes[0] for picture in pictures])
    sets = np.array([picture.set for picture in pictures])
    rows = {
        name: scores(labels[indices], part(results, indices))
        for name, indices in groups(pictures).items()
    }
    correct = is_correct(labels, results.probabilities)
    confidences = results.probabilities.max(axis=1)
    curves = {
        name: risk_coverage(correct[sets == name], confidences[sets == name])
        for name in dict.fromkeys(sets)
    }
    points = {
        name: (1 - rows[name, ""]["uncertain"], rows[name, ""]["certain_accuracy"])
        for name in curves
    }
    wrong = np.flatnonzero(~correct)
    wrong = wrong[:: -(-len(wrong) // (SHEET_COLUMNS * SHEET_ROWS)) or 1]
    titles = [
        f"{CLASS_NAMES[labels[index]]} →\n"
        + (
            CLASS_NAMES[results.probabilities[index].argmax()]
            if results.probabilities[index].any()
            else "no object"
        )
        for index in wrong
    ]
    with default_style(), atomic_io.atomic_writes(folder) as temporary:
        confusion = plots.confusion_matrix(
            metrics.confusion(labels, results.probabilities), CLASS_NAMES
        )
        confusion.axes[0].set_title("Confusion matrix (number of photographs)")
        confusion.savefig(temporary / "confusion_matrix.png", dpi=110)
        coverage_figure(curves, points).savefig(temporary / "coverage.png", dpi=110)
        wrong_figure([results.photos[index] for index in wrong], titles).savefig(
            temporary / "wrong.png", dpi=110
        )
    return rows


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed options. Exits with code 2 on an invalid option."""
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "folder", type=cli.path, metavar="FOLDER", help="folder with pictures and labels.csv"
    )
    parser.add_argument(
        "--no-clothes",
        type=cli.path,
        metavar="FOLDER",
        help="folder with pictures of other things, which should be uncertain (default: the sample "
        "pictures of scikit-image and scikit-learn)",
    )
    cli.add_run_options(parser)
    parser.add_argument(
        "--output-dir",
        type=cli.path,
        default="runs/real_photos",
        metavar="DIR",
        help="folder for the figures and results.json (default: %(default)s)",
    )
    return parser.parse_args(argv)


def sample_pictures() -> list[Path]:
    """Return the sample pictures of scikit-image and scikit-learn, none of which shows clothes."""
    folders = []
    for module, subfolder in (("skimage", "data"), ("sklearn", "datasets/images")):
        if spec := importlib.util.find_spec(module):
            folders.append(Path(spec.origin).parent / subfolder)
    return sorted(
        path
        for folder in folders
        for path in folder.iterdir()
        if path.suffix in (".png", ".jpg", ".gif", ".tif")
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)

    def work() -> None:
        output = Path(options.output_dir)
        atomic_io.check_writable(output)
        pictures = with_single_classes(Path(options.folder))
        others = sample_pictures()
        if options.no_clothes:
            others = sorted(path for path in Path(options.no_clothes).rglob("*") if path.is_file())
        others = readable(others)
        runtime.configure_tensorflow()
        from fmnist.inference.classifier import load_photo_classifier, short

        classifier = load_photo_classifier(options.run, options.runs_dir).compiled()
        print(f"{classifier.description()}\n")
        measure([picture.path for picture in pictures[:WARM_UP]], classifier)
        results = measure([picture.path for picture in pictures], classifier)
        rows = draw(output, pictures, results)
        labels = np.array([picture.classes[0] for picture in pictures])
        sets = np.array([picture.set for picture in pictures])
        record = {
            "sets": [{"set": name, "kind": kind, **row} for (name, kind), row in rows.items()],
            "classes": class_scores(labels, sets, results.probabilities),
            "run": short(classifier.photographs.run),
            "commit": runs.commit(),
            "processor": runtime.processor(),
            "date": datetime.date.today().isoformat(),
        }
        if others:
            uncertain = measure(others, classifier).uncertain
            record["others"] = {
                "pictures": len(others),
                "uncertain": float(uncertain.mean()),
                "interval": metrics.accuracy_interval(float(uncertain.mean()), len(uncertain)),
            }
            certain = [path.name for path, flag in zip(others, uncertain, strict=True) if not flag]
            print(f"Other things that are not uncertain: {', '.join(certain[:20]) or 'none'}\n")
        atomic_io.write_json(output / "results.json", record)
        print(f"{table(record)}\n\n{class_table(record)}\n")
        print(f"Saved {output}/results.json, confusion_matrix.png, coverage.png and wrong.png")

    return cli.exit_code("real_photos.py", work)


if __name__ == "__main__":
    sys.exit(main())
