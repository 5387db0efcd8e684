"""How much faster a sweep is on several workers: the same trainings on one core, on both, and on a
worker for each.

    python -m benchmarks.scaling                  some ten minutes

The three ways take turns, each in processes of its own; medians are compared. Needs Linux and two
cores.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fmnist import cli

ROOT = Path(__file__).resolve().parent.parent
CONTESTANT, SEEDS = "lenet_l2", 4
WAYS = {  # cores, and options of compare_models.py
    "one worker of one core": ({0}, ["--workers", "1"]),
    "two workers of one core": ({0, 1}, ["--workers", "2"]),
    "one worker of both cores": ({0, 1}, ["--workers", "1"]),
}


def seconds(cores: set[int], options: Sequence[str]) -> float:
    """Return how long the sweep takes, start-up, evaluation and table included.

    Raises cli.UserError where the sweep fails, which has printed the cause.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "tools.compare_models",
            CONTESTANT,
            "--seeds",
            str(SEEDS),
            "--epochs",
            "3",
            "--limit",
            "20000",
            "--output-dir",
            folder,
            *options,
        ]
        started = time.perf_counter()
        sweep = subprocess.run(
            command,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        if sweep.returncode:
            raise cli.UserError(f"a sweep failed, with exit code {sweep.returncode}")
        return time.perf_counter() - started


def main() -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    rounds = parser.parse_args().rounds

    def work() -> None:
        measured = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, arguments in WAYS.items():
                measured[way].append(seconds(*arguments))
                print(f"{way}: {measured[way][-1]:.0f} s", flush=True)
        medians = {way: statistics.median(times) for way, times in measured.items()}
        slowest = next(iter(medians.values()))
        print(
            f"\n| {SEEDS} trainings of {CONTESTANT} | seconds | spread | of the first |\n"
            "|---|---|---|---|"
        )
        for way, median in medians.items():
            spread = (max(measured[way]) - min(measured[way])) / median
            print(f"| {way} | {median:.0f} | {spread:.0%} | {median / slowest:.2f} |")

    return cli.exit_code("scaling.py", work)


if __name__ == "__main__":
    sys.exit(main())
