"""Train and score every network with three seeds and print the table of README.md.

    python -m benchmarks.results_table

Runs that are finished are not trained again and others are resumed: a comparison that was
interrupted loses nothing.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.processes import in_own_process
from evaluate_model import evaluate
from fmnist import cli, runs
from fmnist.config import TrainConfig
from train_cnn import train_or_resume

SEEDS = (0, 1, 2)
PLAIN = {"batch_size": 128, "ema_epochs": 0, "augment": "none", "patience": 0}
BATCH_NORM = {"epochs": 15, "schedule": "one-cycle", "learning_rate": 0.004, **PLAIN}
SETTINGS = {
    "dropout_cnn": {},
    "batchnorm_cnn": {"model": "batchnorm_cnn", **BATCH_NORM},
    "gap_cnn": {"model": "gap_cnn", **BATCH_NORM},
    "lenet_l2": {
        "model": "lenet_l2", "epochs": 25, "schedule": "constant", "learning_rate": 0.001, **PLAIN,
    },
}  # fmt: skip


def result(name: str, seed: int, runs_dir: Path) -> dict[str, Any]:
    """Return the metrics of one run, trained and scored where that was not done before."""
    config = TrainConfig(**SETTINGS[name], seed=seed, runs_dir=runs_dir, name=f"{name}-{seed}")
    run = in_own_process(train_or_resume, config)
    metrics = run / runs.METRICS
    epochs = json.loads(metrics.read_text())["epochs"] if metrics.exists() else None
    if epochs != len(runs.load_history(run)):  # or scored before it was finished
        in_own_process(evaluate, run)
    return json.loads(metrics.read_text())


def mean_and_deviation(values: Sequence[float], form: str) -> str:
    return f"{statistics.mean(values):{form}} ± {statistics.stdev(values):{form}}"


def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--runs-dir", type=Path, default=Path("runs/results_table"), help="(%(default)s)"
    )
    runs_dir = parser.parse_args(argv).runs_dir

    def work() -> None:
        results = {name: [result(name, seed, runs_dir) for seed in SEEDS] for name in SETTINGS}
        print(
            "| model | test accuracy, % | test loss | parameters | seconds per epoch | epochs | "
            "options |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, scores in results.items():
            accuracy = mean_and_deviation([100 * score["accuracy"] for score in scores], ".2f")
            loss = mean_and_deviation([score["loss"] for score in scores], ".3f")
            # Of the least disturbed run.
            seconds = min(score["seconds_per_epoch"] for score in scores)
            epochs = sorted(score["epochs"] for score in scores)
            epochs = " to ".join(str(count) for count in dict.fromkeys((epochs[0], epochs[-1])))
            options = " ".join(TrainConfig(**SETTINGS[name]).to_flags()) or "defaults"
            print(
                f"| `{scores[0]['model']}` | {accuracy} | {loss} | {scores[0]['parameters']:,} | "
                f"{seconds:.1f} | {epochs} | `{options}` |"
            )

    return cli.exit_code("results_table.py", work)


if __name__ == "__main__":
    sys.exit(main())
