"""What every trick of a recipe is worth: train it with and without each, and print the table of
docs/ablations.md.

    python -m benchmarks.ablations                  all of them, hours
    python -m benchmarks.ablations muon flips       some

Both sides of a difference have the same seeds, and so the same images to train on and to validate;
the test images are not read. Writes ablations.md, and ablations.json after every training: what is
in there is not trained again, and an interrupted training is resumed.
"""

import dataclasses
import json
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import t

from benchmarks.processes import in_own_process
from fmnist import atomic_io, cli, runs, runtime
from fmnist.config import TrainConfig
from train_cnn import train_or_resume

ROOT = Path(__file__).resolve().parent.parent
BASE = TrainConfig(recipe="quick", val_size=10_000)
SEEDS = 3
Accuracies = dict[str, dict[str, float]]  # of accuracies(), by the seed


class Change(NamedTuple):
    what: str  # in words
    settings: dict[str, Any]  # where they differ from BASE


CHANGES = {
    "muon": Change("AdamW instead of Muon", {"optimizer": "adam", "learning_rate": 0.015}),
    "one-cycle": Change("cosine without a warm-up instead of one-cycle", {"schedule": "cosine"}),
    "flips": Change("no flips", {"augment": "none"}),
    "data-pruning": Change(
        "6 epochs of all images, instead of 10 that skip every other easy one",
        {"prune_every": 1, "epochs": 6},
    ),
    "smoothing": Change("no label smoothing", {"label_smoothing": 0.0}),
    "decay": Change("no weight decay", {"weight_decay": 0.0}),
    "average": Change("the moving average of the weights over half an epoch", {"ema_epochs": 0.5}),
    "dropout": Change("dropout of 0.2 before the last layer", {"dropout": 0.2}),
    "shifts": Change("shifts by up to a pixel", {"augment": "flip+shift"}),
    "erasing": Change("shifts, and random erasing", {"augment": "flip+shift+erase"}),
}


def config_of(name: str) -> TrainConfig:
    return dataclasses.replace(BASE, **(CHANGES[name].settings if name in CHANGES else {}))


def flags_of(change: Change) -> str:
    """Return the options of a change, beside those of BASE, as they are typed."""
    flags = TrainConfig(recipe=BASE.recipe, **change.settings).to_flags()
    return " ".join(flags[2:])  # without the recipe


def up_to_date(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries whose settings give the same now: a difference is of one recipe only."""
    return {
        name: entry
        for name, entry in entries.items()
        if config_of(name).gives_the_same_as(entry["settings"])
    }


def accuracies(run: Path) -> dict[str, float]:
    """Return the accuracies of a run on its validation images, in percent, with and without
    test-time flips.
    """
    runtime.configure_tensorflow()
    import data
    from fmnist.evaluation import metrics

    config, model = runs.load_config(run), runs.load_model(run)
    images, labels = data.load(val_size=config["val_size"], seed=config["seed"]).validation
    plain, mirrored = (
        model.predict(which, batch_size=250, verbose=0) for which in (images, images[:, :, ::-1])
    )
    return {
        "with flips": 100 * metrics.accuracy(labels, plain + mirrored),
        "without flips": 100 * metrics.accuracy(labels, plain),
    }


def difference(changed: Accuracies, base: Accuracies, key: str) -> tuple[float, float]:
    """Return the mean of the differences over the seeds, and half its 95 % interval by
    Student's t.
    """
    differences = [changed[seed][key] - base[seed][key] for seed in changed]
    n, half = len(differences), float("nan")
    if n > 1:
        half = t.ppf(0.975, n - 1) * statistics.stdev(differences) / n**0.5
    return statistics.mean(differences), half


def table(entries: dict[str, Any]) -> str:
    """Return the differences as Markdown, the most harmful change first."""
    base = entries["base"]["accuracies"]
    accuracy = statistics.mean(entry["with flips"] for entry in base.values())
    gains = [entry["with flips"] - entry["without flips"] for entry in base.values()]
    rows = {
        name: [
            difference(entry["accuracies"], base, key) for key in ("with flips", "without flips")
        ]
        for name, entry in entries.items()
        if name != "base"
    }
    lines = [
        f"`{' '.join(BASE.to_flags())}` reaches {accuracy:.2f} % of the validation images with "
        "test-time flips, "
        f"mean of {len(base)} seeds; {statistics.mean(gains):.2f} less without test-time flips.",
        "",
        "| changed | options | difference, points | without test-time flips | seeds |",
        "|---|---|---|---|---|",
    ]
    for name, differences in sorted(rows.items(), key=lambda row: row[1]):
        change, n = CHANGES[name], len(entries[name]["accuracies"])
        points = " | ".join(f"{mean:+.2f} ± {half:.2f}" for mean, half in differences)
        lines.append(f"| {change.what} | `{flags_of(change)}` | {points} | {n} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "changes", nargs="*", metavar="CHANGE", help=f"of {', '.join(CHANGES)} (all)"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help="trainings of each (%(default)s)")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path("runs/ablations"), help="(%(default)s)"
    )
    parser.add_argument(
        "--output-dir", type=Path, default=ROOT / "benchmarks/results", help="(%(default)s)"
    )
    options = parser.parse_args(argv)
    if unknown := {*options.changes} - {*CHANGES}:
        parser.error(f"no such change: {', '.join(sorted(unknown))}")

    def work() -> None:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        record = options.output_dir / "ablations.json"
        entries = up_to_date(json.loads(record.read_text())) if record.exists() else {}
        for name in ("base", *(options.changes or CHANGES)):
            config = config_of(name)
            new = {"settings": config.result_settings(), "accuracies": {}}
            entry = entries.setdefault(name, new)
            for seed in range(options.seeds):
                if str(seed) not in entry["accuracies"]:
                    named = dataclasses.replace(
                        config, seed=seed, runs_dir=options.runs_dir, name=f"{name}-{seed}"
                    )
                    run = in_own_process(train_or_resume, named)
                    entry["accuracies"][str(seed)] = in_own_process(accuracies, run)
                    atomic_io.write_json(record, entries)
        (options.output_dir / "ablations.md").write_text(table(entries))
        print(f"\n{table(entries)}\nSaved {options.output_dir}/ablations.md and ablations.json")

    return cli.exit_code("ablations.py", work)


if __name__ == "__main__":
    sys.exit(main())
