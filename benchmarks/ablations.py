"""Measure what each part of the recipe `quick` contributes: an ablation study.

    python -m benchmarks.ablations                  all changes, several hours
    python -m benchmarks.ablations muon flips       these changes

Both sides of a difference use the same seeds and therefore the same training and validation images;
the test images are not read. Saves ablations.md and, after every training, ablations.json. Run the
same command again to resume: finished trainings are skipped.
"""

import dataclasses
import datetime
import json
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import t

from benchmarks import command_line
from benchmarks.processes import in_own_process
from fmnist import atomic_io, cli, runs, runtime
from fmnist.config import TrainConfig
from train_cnn import train_or_resume

BASE = TrainConfig(recipe="quick", val_size=10_000)
SEEDS = 3
Accuracies = dict[str, dict[str, float]]  # results of accuracies(), by seed


class Change(NamedTuple):
    description: str
    settings: dict[str, Any]  # the settings that differ from BASE


CHANGES = {
    "muon": Change("AdamW instead of Muon", {"optimizer": "adam", "learning_rate": 0.015}),
    "one-cycle": Change(
        "cosine schedule without warm-up instead of one-cycle", {"schedule": "cosine"}
    ),
    "flips": Change("no flips", {"augment": "none"}),
    "data-pruning": Change(
        "no data pruning: 6 epochs of all images instead of 10 with data pruning",
        {"prune_every": 1, "epochs": 6},
    ),
    "smoothing": Change("no label smoothing", {"label_smoothing": 0.0}),
    "decay": Change("no weight decay", {"weight_decay": 0.0}),
    "average": Change("moving average of the weights over half an epoch", {"ema_epochs": 0.5}),
    "dropout": Change("dropout rate 0.2 before the last layer", {"dropout": 0.2}),
    "shifts": Change("shifts by up to one pixel", {"augment": "flip+shift"}),
    "erasing": Change("shifts and random erasing", {"augment": "flip+shift+erase"}),
}


def config_of(name: str) -> TrainConfig:
    """Return the config of a change, or of the unchanged recipe."""
    return dataclasses.replace(BASE, **(CHANGES[name].settings if name in CHANGES else {}))


def flags_of(change: Change) -> str:
    """Return the command line options of a change, without those of BASE."""
    flags = TrainConfig(recipe=BASE.recipe, **change.settings).to_flags()
    return " ".join(flags[2:])  # without the recipe


def up_to_date(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries whose settings still give the same result."""
    return {
        name: entry
        for name, entry in entries.items()
        if config_of(name).gives_the_same_as(entry["settings"])
    }


def accuracies(run: Path) -> dict[str, float]:
    """Return the validation accuracies (%) of a run, with and without test-time flips."""
    runtime.configure_tensorflow()
    import data
    from fmnist.evaluation import metrics

    config, model = runs.load_config(run), runs.load_model(run)
    images, labels = data.load(val_size=config["val_size"], seed=config["seed"]).validation
    plain, mirrored = (
        model.predict(view, batch_size=250, verbose=0) for view in (images, images[:, :, ::-1])
    )
    return {
        "with flips": 100 * metrics.accuracy(labels, plain + mirrored),
        "without flips": 100 * metrics.accuracy(labels, plain),
    }


def difference(changed: Accuracies, base: Accuracies, key: str) -> tuple[float, float]:
    """Return the mean difference over the seeds and the half-width of its 95 % confidence
    interval (Student's t).
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
        f"Baseline: `python train_cnn.py {' '.join(BASE.to_flags())}`, validation accuracy "
        f"{accuracy:.2f} % with test-time flips and {accuracy - statistics.mean(gains):.2f} % "
        f"without (mean of {len(base)} seeds).",
        "",
        "| change | options | difference with flips, points | difference without flips, points | "
        "seeds |",
        "|---|---|---|---|---|",
    ]
    for name, differences in sorted(rows.items(), key=lambda row: row[1]):
        change, n = CHANGES[name], len(entries[name]["accuracies"])
        points = " | ".join(f"{mean:+.2f} ± {half:.2f}" for mean, half in differences)
        lines.append(f"| {change.description} | `{flags_of(change)}` | {points} | {n} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    options = command_line.parse(__doc__, CHANGES, SEEDS, "ablations", argv)

    def work() -> None:
        atomic_io.check_writable(options.output_dir)
        options.output_dir.mkdir(parents=True, exist_ok=True)
        record = options.output_dir / "ablations.json"
        entries = up_to_date(json.loads(record.read_text())) if record.exists() else {}
        for name in ("base", *options.rows):
            config = config_of(name)
            if name not in entries:
                entries[name] = {
                    "settings": config.result_settings(),
                    "accuracies": {},
                    "commit": runs.commit(),
                    "processor": runtime.processor(),
                    "date": datetime.date.today().isoformat(),
                }
            entry = entries[name]
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
