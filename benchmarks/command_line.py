"""The command line of benchmarks that train several rows with several seeds."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from benchmarks.measure_speed import ROOT
from fmnist import cli


def parse(
    docstring: str, rows: Iterable[str], seeds: int, folder: str, argv: list[str] | None
) -> argparse.Namespace:
    """Return the options `rows`, `seeds`, `runs_dir` and `output_dir`.

    Exits with code 2 if an option is invalid or a row is unknown.

    Args:
        docstring: docstring of the command.
        rows: names of all rows.
        seeds: default number of seeds per row.
        folder: name of the default folder in runs/.
        argv: command line arguments; None for those of the process.
    """
    rows = list(rows)
    parser = cli.Parser(docstring)
    parser.add_argument(
        "rows",
        nargs="*",
        metavar="ROW",
        help=f"rows to measure: {', '.join(rows)} (default: all)",
    )
    parser.add_argument(
        "--seeds",
        type=cli.number(int, 1, 1000),
        default=seeds,
        metavar="N",
        help="number of seeds per row (default: %(default)s)",
    )
    parser.add_argument(
        "--runs-dir",
        type=Path,
        default=Path("runs") / folder,
        metavar="DIR",
        help="folder for run directories (default: %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=ROOT / "benchmarks/results",
        metavar="DIR",
        help="folder for the results (default: benchmarks/results)",
    )
    options = parser.parse_args(argv)
    if unknown := {*options.rows} - {*rows}:
        parser.error(f"unknown row: {', '.join(sorted(unknown))}")
    options.rows = options.rows or rows
    return options
