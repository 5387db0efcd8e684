"""Measure what each part of the classification of photographs brings.

    python -m benchmarks.photo_ablation LABELLED TRAINING

LABELLED is a folder of photographs for measuring, see benchmarks/real_photos.py; TRAINING is a
folder or CSV file of other photographs to train on, see tools/finetune_photos.py. For every seed,
trains networks on Fashion-MNIST with the recipes strong and photo, and the second one further on
the photographs. The segmentation network and the network for whole photographs are those of the
project. Writes photo_ablation.json. Run the same command again to resume.
"""

import datetime
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure_speed import ROOT
from benchmarks.real_photos import with_single_classes
from fmnist import atomic_io, cli, runs, runtime
from fmnist.source import CLASS_NAMES

VAL_SIZE = 2000
# The run, and how the photographs are converted, by row of the table.
ROWS = {
    "Fashion-MNIST only, smooth background": ("strong", "surface"),
    "with the segmentation network": ("strong", "cut out"),
    "with the recipe `photo`": ("photo", "cut out"),
    "with photographs": ("tuned", "cut out"),
    "with the network for whole photographs": ("tuned", "all"),
}
GARMENTS_AND_BAGS = "home, garments and bags"
SHOES = ("Sandal", "Sneaker", "Ankle boot")


def converted(paths: Sequence[Path]) -> dict[str, list[Any]]:
    """Return the photo.Photo of pictures by the kind of the conversion.

    surface: cut out by the smooth background only, even if the background is not smooth.
    cut out: as in photo.convert(), without the network for whole photographs.
    all: as in photo.convert().
    """
    from fmnist.inference import photo, segmentation, whole_photo
    from fmnist.inference.picture_file import decode
    from fmnist.progress import track

    segment, classify_whole = segmentation.load(), whole_photo.load()
    photos = {"surface": [], "cut out": [], "all": []}
    for path in track(paths, "Cutting out the items"):
        picture = decode(path)
        surface = photo.on_smooth_background(picture)
        photos["surface"].append(photo.Photo(picture, surface.image[None], surface.mask, []))
        whole = photo.convert(picture, segment, classify_whole)
        photos["all"].append(whole)
        photos["cut out"].append(whole._replace(whole=None))
    return photos


def predictions(run: Path, photos: Sequence[Any]) -> np.ndarray:
    """Return the predicted classes (N,) of photo.Photo; -1 where no item was found."""
    from fmnist import networks
    from fmnist.evaluation import tta
    from fmnist.inference import photo

    model = runs.load_model(run)
    views = tta.views(np.concatenate([converted.images for converted in photos]), True, False)
    outputs = np.mean([networks.predict(model, view) for view in views], axis=0)
    parts = np.split(outputs, np.cumsum([len(converted.images) for converted in photos])[:-1])
    return np.array(
        [
            photo.combined(part, converted.whole).argmax() if len(part) else -1
            for part, converted in zip(parts, photos, strict=True)
        ]
    )


def trained(kind: str, seed: int, training: str, runs_dir: Path) -> Path:
    """Return a run of a kind (strong, photo or tuned) and seed; train it if it does not exist."""
    import train_cnn
    from fmnist.config import TrainConfig
    from tools import finetune_photos

    name = f"{kind}-{seed}"
    if kind != "tuned":
        settings = {"recipe": kind, "val_size": VAL_SIZE, "seed": seed}
        return train_cnn.train_or_resume(TrainConfig(**settings, runs_dir=str(runs_dir), name=name))
    start = trained("photo", seed, training, runs_dir)
    if runs.is_finished(runs_dir / name):
        config = runs.load_config(runs_dir / name)
        if (config["photographs"], config["init_from"]) != (training, str(start)):
            raise runs.RunError(
                f"{runs_dir / name} was trained on other photographs; choose another --runs-dir"
            )
    else:
        options = [training, "--run", str(start), "--seed", str(seed)]
        options += ["--runs-dir", str(runs_dir), "--name", name]
        finetune_photos.finetune(finetune_photos.parse_options(options))
    return runs_dir / name


def accuracies(labels: np.ndarray, sets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return the accuracy by set, and that of the garments and bags of the set home."""
    correct = labels == predicted
    scores = {name: float(correct[sets == name].mean()) for name in dict.fromkeys(sets)}
    is_shoe = np.isin(labels, [CLASS_NAMES.index(name) for name in SHOES])
    if (chosen := (sets == "home") & ~is_shoe).any():
        scores[GARMENTS_AND_BAGS] = float(correct[chosen].mean())
    return dict(sorted(scores.items()))


def table(record: dict[str, Any]) -> str:
    """Return the content of photo_ablation.json as a Markdown table: mean ± standard deviation."""
    rows = record["rows"]
    names = list(next(iter(next(iter(rows.values())).values())))
    lines = [f"| accuracy, % | {' | '.join(names)} | seeds |", f"|---{'|---' * (len(names) + 1)}|"]
    for row, by_seed in rows.items():
        cells = []
        for name in names:
            values = [100 * scores[name] for scores in by_seed.values()]
            deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{deviation}")
        lines.append(f"| {row} | {' | '.join(cells)} | {len(by_seed)} |")
    return "\n".join(lines)


def parse_options(argv: list[str] | None = None) -> Any:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("labelled", type=cli.path, metavar="LABELLED", help="folder with labelled photographs")
    add("training", type=cli.path, metavar="TRAINING", help="photographs to train on")
    add(
        "--seeds",
        type=cli.number(int, 1, 1000),
        default=3,
        metavar="N",
        help="number of seeds per row (default: %(default)s)",
    )
    add(
        "--runs-dir",
        type=Path,
        default=Path("runs/photo_ablation"),
        metavar="DIR",
        help="folder for run directories (default: %(default)s)",
    )
    add(
        "--output-dir",
        type=Path,
        default=ROOT / "benchmarks/results",
        metavar="DIR",
        help="folder for the results (default: benchmarks/results)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = parse_options(argv)

    def work() -> None:
        atomic_io.check_writable(options.output_dir)
        pictures = with_single_classes(Path(options.labelled))
        runtime.configure_tensorflow(concurrent_operations=2)
        photos = converted([picture.path for picture in pictures])
        labels = np.array([picture.classes[0] for picture in pictures])
        sets = np.array([picture.set for picture in pictures])
        rows = {row: {} for row in ROWS}
        for seed in range(options.seeds):
            for row, (kind, conversion) in ROWS.items():
                run = trained(kind, seed, options.training, options.runs_dir)
                scores = accuracies(labels, sets, predictions(run, photos[conversion]))
                rows[row][str(seed)] = scores
        record = {
            "rows": rows,
            "commit": runs.commit(),
            "processor": runtime.processor(),
            "date": datetime.date.today().isoformat(),
        }
        output = options.output_dir / "photo_ablation.json"
        options.output_dir.mkdir(parents=True, exist_ok=True)
        atomic_io.write_json(output, record)
        print(f"{table(record)}\nSaved {output}")

    return cli.exit_code("photo_ablation.py", work, cli.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
