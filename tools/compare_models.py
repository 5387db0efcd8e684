"""Compare networks, recipes, classical baselines and ablations, each with several seeds.

    python -m tools.compare_models                         all of them, three seeds each: many hours
    python -m tools.compare_models dropout_cnn quick knn   some; --help names all
    python -m tools.compare_models networks baselines --seeds 1 --limit 6000
    python -m tools.compare_models --workers 2             two at a time, half of the cores each
    python -m tools.compare_models --scheduler tcp://host:8786
                                                           on the workers of a Dask cluster

A comparison that was broken off goes on with the same command: what is finished is not trained
again. Leaves comparison.md, comparison.csv, figures/ and report.html in runs/comparison, beside a
folder for every training: the result.json in it is all that is needed not to train it again.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started as a file, which finds no other
    sys.exit("run it from the project's folder: python -m tools.compare_models")

from fmnist import cli
from fmnist.config import ConfigError, TrainConfig
from tools.comparison.contestants import CONTESTANTS, GROUPS, expand
from tools.comparison.results import CompareError


def contestant(text: str) -> str:
    """An argparse type: the name of a contestant or of a group."""
    if text not in GROUPS and text not in CONTESTANTS:
        raise argparse.ArgumentTypeError(
            f"no {text!r} is known; known are {', '.join([*GROUPS, *CONTESTANTS])}"
        )
    return text


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the options. Exits with code 2 on a wrong one."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add(
        "names",
        nargs="*",
        metavar="NAME",
        type=contestant,
        help="; ".join(f"{group}: {', '.join(names)}" for group, names in GROUPS.items()),
    )
    add("--seeds", type=cli.number(int, 1, 1000), default=3, help="trainings each (%(default)s)")
    add("--epochs", type=cli.number(int, 1, 1e6), help="of every network (its own)")
    cli.add_sizes(parser)
    add(
        "--weights",
        type=cli.path,
        metavar="imagenet|FILE",
        help="what mobilenet starts from (imagenet where Keras has or can fetch it, else chance)",
    )
    cli.add_data_dir(parser)
    add(
        "--output-dir",
        type=cli.path,
        default="runs/comparison",
        help="where runs and results are written (%(default)s)",
    )
    add(
        "--workers",
        type=cli.number(int, 1, 1000),
        help="train so many at a time, by Dask on this machine",
    )
    add(
        "--scheduler",
        metavar="ADDRESS",
        help="train on the workers of this Dask scheduler, which see the same folders",
    )
    options = parser.parse_args(argv)
    if options.workers and options.scheduler:
        parser.error("--workers are of this machine, a --scheduler has its own")
    if options.weights and "mobilenet" not in expand(options.names):
        parser.error("--weights are of mobilenet, which is not compared")
    try:
        for name in expand(options.names):
            TrainConfig(**(CONTESTANTS[name] or {}) | cli.sizes(options))
    except ConfigError as error:
        parser.error(str(error))
    return options


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)

    def work() -> None:
        from tools.comparison import comparison

        given = cli.sizes(options) | {"data_dir": comparison.absolute(options.data_dir)}
        failures = comparison.compare(
            options.names,
            options.seeds,
            given,
            options.epochs,
            options.weights,
            options.output_dir,
            options.workers,
            options.scheduler,
        )
        report = Path(options.output_dir) / "report.html"
        print(f"Saved {report}, comparison.md, comparison.csv and figures/")
        if failures:
            raise CompareError(f"{len(failures)} failed: {'; '.join(failures)}")
        print(f"Next: open {report} in a browser")

    return cli.exit_code("compare_models.py", work, cli.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
