"""Compare the engines fast and plain: training time and test accuracy.

    python -m benchmarks.engines                  both recipes, three seeds (half an hour)
    python -m benchmarks.engines quick --seeds 1

The trainings of both engines alternate. Each runs in a process of its own. Interrupted
measurements are resumed.
"""

import dataclasses
import datetime
import json
import statistics
import sys
from typing import Any

from benchmarks import command_line
from benchmarks.processes import in_own_process
from evaluate_model import evaluate
from fmnist import atomic_io, cli, runs, runtime
from fmnist.config import TrainConfig
from train_cnn import train_or_resume

RECIPES = ("classic", "quick")
ENGINES = ("fast", "plain")
SEEDS = 3  # per recipe and engine
Entries = dict[str, dict[str, Any]]  # by the name of the run


def config_of(recipe: str, engine: str, seed: int) -> TrainConfig:
    """Return the config of one training."""
    return TrainConfig(recipe=recipe, engine=engine, seed=seed)


def train_and_score(config: TrainConfig) -> dict[str, Any]:
    """Return the entry of one training."""
    run = in_own_process(train_or_resume, config)
    scores, history = in_own_process(evaluate, run), runs.load_history(run)
    return {
        "settings": config.result_settings(),
        "accuracy": scores["accuracy"],
        "seconds": sum(epoch["seconds"] for epoch in history),
        "epochs": len(history),
        "commit": runs.load_config(run)["commit"],
        "processor": runtime.processor(),
        "date": datetime.date.today().isoformat(),
    }


def up_to_date(entries: Entries) -> Entries:
    """Return the entries whose settings still give the same result."""

    def config_named(name: str) -> TrainConfig:
        recipe, engine, seed = name.split("-")
        return config_of(recipe, engine, int(seed))

    return {
        name: entry
        for name, entry in entries.items()
        if config_named(name).gives_the_same_as(entry["settings"])
    }


def table(entries: Entries) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| recipe | engine | test accuracy, % | training time, s | relative to fast | seeds |",
        "|---" * 6 + "|",
    ]
    for recipe in RECIPES:
        by_engine = {
            engine: [entry for name, entry in entries.items() if f"{recipe}-{engine}-" in name]
            for engine in ENGINES
        }
        if not all(by_engine.values()):
            continue
        seconds = {
            engine: statistics.median(entry["seconds"] for entry in rows)
            for engine, rows in by_engine.items()
        }
        for engine, rows in by_engine.items():
            accuracies = [100 * entry["accuracy"] for entry in rows]
            mean = f"{statistics.mean(accuracies):.2f}"
            if len(accuracies) > 1:
                mean += f" ± {statistics.stdev(accuracies):.2f}"
            ratio = seconds[engine] / seconds["fast"]
            lines.append(
                f"| {recipe} | {engine} | {mean} | {seconds[engine]:.0f} | {ratio:.2f} | "
                f"{len(rows)} |"
            )
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    options = command_line.parse(__doc__, RECIPES, SEEDS, "engines", argv)

    def work() -> None:
        atomic_io.check_writable(options.output_dir)
        options.output_dir.mkdir(parents=True, exist_ok=True)
        record = options.output_dir / "engines.json"
        entries = up_to_date(json.loads(record.read_text())) if record.exists() else {}
        for seed in range(options.seeds):
            for recipe in options.rows:
                for engine in ENGINES:
                    name = f"{recipe}-{engine}-{seed}"
                    if name not in entries:
                        config = config_of(recipe, engine, seed)
                        named = dataclasses.replace(config, runs_dir=options.runs_dir, name=name)
                        entries[name] = train_and_score(named)
                        atomic_io.write_json(record, entries)
        print(f"\n{table(entries)}\nSaved {record}")

    return cli.exit_code("engines.py", work)


if __name__ == "__main__":
    sys.exit(main())
