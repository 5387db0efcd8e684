"""Train the recipes and measure accuracy against training cost: the leaderboard.

    python -m benchmarks.leaderboard quick strong        these rows (default: all rows)

The unit of cost is one epoch of `dropout_cnn` with plain `model.fit` on 55,000 images. It is
measured before and after every training, so that costs from different machines compare. Saves
leaderboard.md, leaderboard.png and, after every training, leaderboard.json. Run the same command
again to resume: finished trainings are skipped.
"""

import dataclasses
import datetime
import functools
import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from benchmarks import command_line
from benchmarks.measure_speed import Worker
from benchmarks.processes import in_own_process
from evaluate_model import evaluate
from fmnist import atomic_io, cli, runs, runtime
from fmnist.config import TrainConfig
from fmnist.figure_style import default_style
from plots import BLUE
from train_cnn import train_or_resume

SEEDS = 3


class Row(NamedTuple):
    config: TrainConfig
    budget: float  # cost limit in units


# The recipes were chosen with 5,000 or 10,000 validation images. With all settings fixed, 2,000
# suffice to fit the temperature of the calibration.
ROWS = {
    "classic": Row(TrainConfig(val_size=2000), 8),
    "shortest": Row(TrainConfig(recipe="quick", epochs=3, val_size=2000), 2),
    "quick": Row(TrainConfig(recipe="quick", val_size=2000), 6),
    "strong": Row(TrainConfig(recipe="strong", val_size=2000), 30),
    "best": Row(TrainConfig(recipe="best", val_size=2000), 180),
}
ACCURACIES = "accuracy", "accuracy_without_flips", "accuracy_with_shifts"
# Published test accuracies (%) on the de-duplicated data set, at most 1.2 million parameters.
PUBLISHED = {
    "ResNet-20, 300 epochs, random erasing (zhunzhong07/Random-Erasing)": 95.55,
    "ResNet-preact-20, 200 epochs, cutout (hysts/pytorch_image_classification)": 95.51,
    "fastai course22p2, 50 epochs": 94.9,
    "fastai course22p2, 20 epochs, test-time flips": 94.5,
    "fastai course22p2, 5 epochs": 93.4,
}


def train_and_score(
    row: str, seed: str, runs_dir: Path, unit: Callable[[], float]
) -> dict[str, Any]:
    """Return the entry of one training.

    Args:
        row: key of ROWS.
        seed: random seed, as a key of a JSON object.
        runs_dir: folder for run directories.
        unit: function that measures the seconds of one unit of cost.
    """
    config = config_of(row, seed)
    before = unit()
    named = dataclasses.replace(config, runs_dir=runs_dir, name=f"{row}-{seed}")
    run = in_own_process(train_or_resume, named)
    unit_seconds = (before + unit()) / 2
    scores = in_own_process(evaluate, run, test_time_flips=True, test_time_shifts=True)
    history = runs.load_history(run)
    flips, seconds = scores["without_shifts"], sum(epoch["seconds"] for epoch in history)
    return {
        "settings": config.result_settings(),
        "accuracy": flips["accuracy"],
        "accuracy_without_flips": flips["without_flips"]["accuracy"],
        "accuracy_with_shifts": scores["accuracy"],
        "loss": flips["loss"],
        "val_accuracy": scores["validation"]["without_shifts"]["accuracy"],
        "parameters": scores["parameters"],
        "epochs": len(history),
        "seconds": seconds,
        "unit_seconds": unit_seconds,
        "cost": seconds / unit_seconds,
        "commit": runs.load_config(run)["commit"],
        "date": datetime.date.today().isoformat(),
        "processor": runtime.processor(),
    }


def config_of(row: str, seed: str) -> TrainConfig:
    """Return the config of one training."""
    return dataclasses.replace(ROWS[row].config, seed=int(seed))


def up_to_date(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries whose settings still give the same result."""
    return {
        row: {
            seed: entry
            for seed, entry in of_row.items()
            if config_of(row, seed).gives_the_same_as(entry["settings"])
        }
        for row, of_row in entries.items()
        if row in ROWS
    }


def summaries(entries: dict[str, Any]) -> dict[str, Any]:
    """Return a dict for every row with entries: n, means and standard deviations over seeds."""
    rows = {}
    for row in ROWS:
        if of_row := list(entries.get(row, {}).values()):
            rows[row] = {
                "n": len(of_row),
                "parameters": of_row[0]["parameters"],
                "epochs": of_row[0]["epochs"],
            }
            for key in (*ACCURACIES, "cost", "seconds"):
                values = [entry[key] for entry in of_row]
                rows[row][key] = statistics.mean(values)
                rows[row][f"{key}_deviation"] = (
                    statistics.stdev(values) if len(values) > 1 else math.nan
                )
    return rows


def table(rows: dict[str, Any]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| command | cost, units | epochs | test accuracy, % | with test-time flips, % | "
        "with flips and shifts, % | seeds |",
        "|---" * 7 + "|",
    ]
    for name, row in rows.items():
        budget = ROWS[name].budget
        over = ", exceeded" if row["cost"] > budget else ""
        cells = (
            f"`{command(name)}`",
            f"{row['cost']:.1f} (limit {budget:g}{over})",
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


def published_table() -> str:
    """Return the published accuracies as a Markdown table."""
    lines = ["| published model | test accuracy, % |", "|---|---|"]
    lines += [f"| {name} | {accuracy} |" for name, accuracy in PUBLISHED.items()]
    return "\n".join(lines) + "\n"


def percent(row: dict[str, Any], key: str) -> str:
    """Return the mean of a summary, with its standard deviation for several seeds."""
    mean = f"{100 * row[key]:.2f}"
    return f"{mean} ± {100 * row[f'{key}_deviation']:.2f}" if row["n"] > 1 else mean


def pareto_front(rows: dict[str, Any]) -> dict[str, Any]:
    """Return the rows that are more accurate than all cheaper rows, by ascending cost."""
    chosen = {}
    for name, row in sorted(rows.items(), key=lambda item: item[1]["cost"]):
        if all(row["accuracy"] > other["accuracy"] for other in chosen.values()):
            chosen[name] = row
    return chosen


def figure_of(rows: dict[str, Any]) -> Figure:
    """Return the plot of accuracy against cost; published accuracies, without a cost, are lines."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    best = pareto_front(rows).values()
    axes.plot([row["cost"] for row in best], [100 * row["accuracy"] for row in best], color=BLUE)
    axes.errorbar(
        [row["cost"] for row in rows.values()],
        [100 * row["accuracy"] for row in rows.values()],
        yerr=[100 * row["accuracy_deviation"] for row in rows.values()],
        color=BLUE,
        marker="o",
        linestyle="none",
        capsize=4,
    )
    for name, row in rows.items():
        config = ROWS[name].config
        is_shortened = config.epochs != TrainConfig(recipe=config.recipe).epochs
        axes.annotate(
            f"{config.recipe}, {config.epochs} epochs" if is_shortened else config.recipe,
            (row["cost"], 100 * row["accuracy"]),
            xytext=(8, -12),
            textcoords="offset points",
            color=BLUE,
            weight="bold",
        )
    above = 100
    for name, accuracy in PUBLISHED.items():
        # The label goes below its line if the next line above is close.
        side = 1 if above - accuracy > 0.2 else -1
        axes.axhline(accuracy, color="0.6", linestyle=":", linewidth=1)
        axes.annotate(
            name,
            (1, accuracy),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 2 * side),
            textcoords="offset points",
            ha="right",
            va="bottom" if side > 0 else "top",
            fontsize=8,
            color="0.35",
        )
        above = accuracy
    axes.set(
        xscale="log",
        xlabel="Training cost, units (1 unit: one epoch of dropout_cnn with plain model.fit)",
        ylabel="Test accuracy with test-time flips, %",
        title="Accuracy against training cost (mean ± standard deviation over seeds)",
        xlim=(1, 2000),
    )
    ticks = (1, 2, 5, 10, 20, 50, 100, 200)
    axes.set_xticks(ticks, ticks)
    axes.minorticks_off()
    return figure


def main(argv: list[str] | None = None) -> int:
    options = command_line.parse(__doc__, ROWS, SEEDS, "leaderboard", argv)

    def work() -> None:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        record = options.output_dir / "leaderboard.json"
        entries = up_to_date(json.loads(record.read_text())) if record.exists() else {}
        worker = None
        for row in options.rows:
            known = entries.setdefault(row, {})
            for seed in map(str, range(options.seeds)):
                if seed in known:
                    continue
                if not worker:
                    worker = Worker("plain_epoch")
                    worker.turn()  # not counted: it includes tracing
                unit = functools.partial(unit_seconds, worker)
                known[seed] = train_and_score(row, seed, options.runs_dir, unit)
                atomic_io.write_json(record, entries)
        rows = summaries(entries)
        (options.output_dir / "leaderboard.md").write_text(table(rows))
        with default_style():
            figure_of(rows).savefig(options.output_dir / "leaderboard.png", dpi=150)
        print(
            f"\n{table(rows)}\nSaved {options.output_dir}/leaderboard.md, leaderboard.json and "
            "leaderboard.png"
        )

    return cli.exit_code("leaderboard.py", work)


def unit_seconds(worker: Worker) -> float:
    """Return the seconds of one unit of cost, without the stall of tf.data at its end."""
    return worker.turn()["calm_seconds"]


if __name__ == "__main__":
    sys.exit(main())
