"""Measure the time of a comparison with one worker on one core, with two, and on both cores.

    python -m benchmarks.scaling                  about ten minutes

The configurations take turns, each in its own processes, and the table compares their medians.
Needs Linux and two cores.
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
CONFIGURATIONS = {  # cores, and options of compare_models.py
    "one worker with one core": ({0}, ["--workers", "1"]),
    "two workers with one core each": ({0, 1}, ["--workers", "2"]),
    "one worker with both cores": ({0, 1}, ["--workers", "1"]),
}


def seconds(cores: set[int], options: Sequence[str]) -> float:
    """Return the time of a comparison, including start-up, evaluation and tables.

    Args:
        cores: indices of the cores that the processes may use.
        options: options of compare_models.py.

    Raises:
        UserError: if the comparison fails, after it has printed the cause.
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
        comparison = subprocess.run(
            command,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        if comparison.returncode:
            raise cli.UserError(f"a comparison failed with exit code {comparison.returncode}")
        return time.perf_counter() - started


def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        metavar="N",
        help="number of measurements per configuration (default: %(default)s)",
    )
    rounds = parser.parse_args(argv).rounds

    def work() -> None:
        measured = {name: [] for name in CONFIGURATIONS}
        for _ in range(rounds):
            for name, arguments in CONFIGURATIONS.items():
                measured[name].append(seconds(*arguments))
                print(f"{name}: {measured[name][-1]:.0f} s", flush=True)
        medians = {name: statistics.median(times) for name, times in measured.items()}
        first = next(iter(medians.values()))
        print(
            f"\n| {SEEDS} trainings of {CONTESTANT} | median time, s | range, % of the median | "
            "relative time |\n"
            "|---|---|---|---|"
        )
        for name, median in medians.items():
            spread = (max(measured[name]) - min(measured[name])) / median
            print(f"| {name} | {median:.0f} | {100 * spread:.0f} | {median / first:.2f} |")

    return cli.exit_code("scaling.py", work)


if __name__ == "__main__":
    sys.exit(main())
