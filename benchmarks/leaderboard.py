"""Train the recipes and measure accuracy against training cost: the leaderboard.

    python -m benchmarks.leaderboard quick strong        these rows (default: all rows)

The unit of cost is one epoch of `dropout_cnn` with plain `model.fit` on 55,000 images. It is
measured before and after every training, so that costs from different machines compare. best-large
is trained with one seed. Saves leaderboard.md and, after every training, leaderboard.json. Run the
same command again to resume: finished trainings are skipped. benchmarks.peers compares the recipes
with those of others.
"""

import dataclasses
import datetime
import functools
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import command_line
from benchmarks.measure_speed import Worker
from benchmarks.processes import in_own_process
from evaluate_model import evaluate
from fmnist import atomic_io, cli, runs, runtime
from fmnist.config import TrainConfig
from train_cnn import train_or_resume

SEEDS = 3
RECORD = "leaderboard.json"


@functools.cache
def plain_keras() -> Worker:
    """Return the process that measures the unit of cost, after a first epoch with tracing."""
    worker = Worker("plain_epoch")
    worker.turn()
    return worker


def unit_of_cost() -> float:
    """Measure the seconds of one unit, without the stall of tf.data at the end of the epoch."""
    return plain_keras().turn()["seconds_without_stall"]


class Row(NamedTuple):
    config: TrainConfig
    limit: float  # highest cost, in units
    seeds: int | None = None  # largest number of seeds; None for any number


# The recipes were chosen with 5,000 or 10,000 validation images. With all settings fixed, 2,000
# suffice to fit the temperature of the calibration.
ROWS = {
    "classic": Row(TrainConfig(val_size=2000), 8),
    "shortest": Row(TrainConfig(recipe="quick", epochs=4, val_size=2000), 2),
    "quick": Row(TrainConfig(recipe="quick", val_size=2000), 6),
    "strong-short": Row(TrainConfig(recipe="strong", epochs=7, val_size=2000), 15),
    "strong": Row(TrainConfig(recipe="strong", val_size=2000), 30),
    "best": Row(TrainConfig(recipe="best", val_size=2000), 180),
    # Takes more than three times as long as best, so there is one seed.
    "best-large": Row(
        TrainConfig(recipe="best", ensemble_size=3, width=1.4, val_size=2000), 530, seeds=1
    ),
}
ACCURACIES = "accuracy", "accuracy_without_flips", "accuracy_with_shifts"
# Headings of the scores that calibration changes, with test-time flips.
CALIBRATION = {
    "loss": "loss",
    "calibrated_loss": "calibrated loss",
    "ece": "ECE",
    "calibrated_ece": "calibrated ECE",
}


def train_and_score(row: str, seed: int, runs_dir: Path) -> dict[str, Any]:
    """Return the entry of one training.

    Args:
        row: key of ROWS.
        seed: random seed.
        runs_dir: folder for run directories.
    """
    config = config_of(row, seed)
    before = unit_of_cost()
    named = dataclasses.replace(config, runs_dir=runs_dir, name=f"{row}-{seed}")
    run = in_own_process(train_or_resume, named)
    after = unit_of_cost()
    scores = in_own_process(evaluate, run, test_time_flips=True, test_time_shifts=True)
    history = runs.load_history(run)
    flips = scores["without_shifts"]
    seconds = sum(epoch["seconds"] for epoch in history)
    return {
        "settings": config.result_settings(),
        "accuracy": flips["accuracy"],
        "accuracy_without_flips": flips["without_flips"]["accuracy"],
        "accuracy_with_shifts": scores["accuracy"],
        **{key: flips[key] for key in CALIBRATION},
        "val_accuracy": scores["validation"]["without_shifts"]["accuracy"],
        "parameters": scores["parameters"],
        "epochs": len(history),
        "seconds": seconds,
        "unit_seconds": (before, after),
        "cost": seconds / ((before + after) / 2),
        "commit": runs.load_config(run)["commit"],
        "date": datetime.date.today().isoformat(),
        "processor": runtime.processor(),
    }


def config_of(row: str, seed: int) -> TrainConfig:
    """Return the config of one training."""
    return dataclasses.replace(ROWS[row].config, seed=seed)


def up_to_date(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries whose settings still give the same result."""
    return {
        row: {
            seed: entry
            for seed, entry in of_row.items()
            if config_of(row, int(seed)).gives_the_same_as(entry["settings"])
        }
        for row, of_row in entries.items()
        if row in ROWS
    }


def summaries(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the summary of every row with entries."""
    return {
        row: summary(list(entries[row].values()), (*ACCURACIES, *CALIBRATION, "cost", "seconds"))
        for row in ROWS
        if entries.get(row)
    }


def summary(of_row: list[dict[str, Any]], keys: Iterable[str]) -> dict[str, Any]:
    """Return n, and the means and standard deviations over the seeds of a row."""
    result = {"n": len(of_row)} | {key: of_row[0][key] for key in ("parameters", "epochs")}
    for key in keys:
        values = [entry[key] for entry in of_row]
        result[key] = statistics.mean(values)
        result[f"{key}_deviation"] = statistics.stdev(values) if len(values) > 1 else math.nan
    return result


def table(rows: dict[str, Any]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| command | cost, units | epochs | test accuracy, % | with test-time flips, % | "
        "with flips and shifts, % | seeds |",
        "|---" * 7 + "|",
    ]
    for name, row in rows.items():
        limit = ROWS[name].limit
        over = ", exceeded" if row["cost"] > limit else ""
        cells = (
            f"`{command(name)}`",
            f"{row['cost']:.1f} (limit {limit:g}{over})",
            str(row["epochs"]),
            percent(row, "accuracy_without_flips"),
            percent(row, "accuracy"),
            percent(row, "accuracy_with_shifts"),
            str(row["n"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def command(row: str) -> str:
    """Return the command that trains a row."""
    return f"python train_cnn.py {' '.join(ROWS[row].config.to_flags())}"


def percent(row: dict[str, Any], key: str) -> str:
    """Return the mean of a summary in percent, with its standard deviation for several seeds."""
    return mean(row, key, 100, 2)


def mean(row: dict[str, Any], key: str, factor: float, digits: int) -> str:
    """Return the mean of a summary times a factor, with its deviation for several seeds."""
    text = f"{factor * row[key]:.{digits}f}"
    return f"{text} ± {factor * row[f'{key}_deviation']:.{digits}f}" if row["n"] > 1 else text


def complete(
    record: Path,
    up_to_date: Callable[[dict[str, Any]], dict[str, Any]],
    wanted: Iterable[tuple[str, int]],
    train: Callable[[str, int], dict[str, Any]],
) -> dict[str, Any]:
    """Train what is missing in a JSON file, save after every training, and return all entries.

    Args:
        record: path of the file, which may not exist.
        up_to_date: function that returns the entries to keep.
        wanted: rows and seeds, in the order of training.
        train: function that returns the entry of a row and a seed.
    """
    entries = up_to_date(json.loads(record.read_text())) if record.exists() else {}
    for row, seed in wanted:
        known = entries.setdefault(row, {})
        if str(seed) not in known:
            known[str(seed)] = train(row, seed)
            atomic_io.write_json(record, entries)
    return entries


def main(argv: list[str] | None = None) -> int:
    options = command_line.parse(__doc__, ROWS, SEEDS, "leaderboard", argv)

    def work() -> None:
        atomic_io.check_writable(options.output_dir)
        options.output_dir.mkdir(parents=True, exist_ok=True)
        wanted = [
            (row, seed)
            for row in options.rows
            for seed in range(min(options.seeds, ROWS[row].seeds or options.seeds))
        ]
        entries = complete(
            options.output_dir / RECORD,
            up_to_date,
            wanted,
            lambda row, seed: train_and_score(row, seed, options.runs_dir),
        )
        rows = summaries(entries)
        (options.output_dir / "leaderboard.md").write_text(table(rows))
        print(f"\n{table(rows)}\nSaved {options.output_dir}/leaderboard.md and {RECORD}")

    return cli.exit_code("leaderboard.py", work)


if __name__ == "__main__":
    sys.exit(main())
