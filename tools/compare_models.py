"""Compare networks, recipes, ablations and classical classifiers, each with several random seeds.

    python -m tools.compare_models                         everything, three seeds each: many hours
    python -m tools.compare_models dropout_cnn quick knn   these contestants only
    python -m tools.compare_models networks baselines --seeds 1 --limit 6000
    python -m tools.compare_models --workers 2             two trainings at a time on this machine
    python -m tools.compare_models --scheduler tcp://host:8786
                                                           on the workers of a Dask cluster

Saves comparison.md, comparison.csv, figures/ and report.html in runs/comparison, and one folder per
training. Run the same command again to resume: a training whose folder contains result.json is
skipped.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a file, which cannot import fmnist
    sys.exit("start this command in the project's folder: python -m tools.compare_models")

from fmnist import atomic_io, cli, runtime
from fmnist.config import ConfigError, TrainConfig
from tools.comparison.contestants import CONTESTANTS, GROUPS, expand
from tools.comparison.results import CompareError


def contestant(text: str) -> str:
    """Return the name of a contestant or of a group of contestants. An argparse type."""
    if text not in GROUPS and text not in CONTESTANTS:
        raise argparse.ArgumentTypeError(
            f"unknown contestant {text!r}; choose from {', '.join([*GROUPS, *CONTESTANTS])}"
        )
    return text


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed options. Exits with code 2 on an invalid option."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    groups = "; ".join(f"{group}: {', '.join(names)}" for group, names in GROUPS.items())
    add(
        "names",
        nargs="*",
        metavar="NAME",
        type=contestant,
        help=f"contestants or groups of contestants to compare (default: all groups). {groups}",
    )
    add(
        "--seeds",
        type=cli.number(int, 1, 1000),
        default=3,
        metavar="N",
        help="number of trainings per contestant, with random seeds from 0 on "
        "(default: %(default)s)",
    )
    add(
        "--epochs",
        type=cli.number(int, 1, 1e6),
        metavar="N",
        help="maximum number of epochs of every network (default: that of the contestant)",
    )
    cli.add_sizes(parser)
    add(
        "--weights",
        type=cli.path,
        metavar="imagenet|FILE",
        help="initial weights of mobilenet (default: imagenet, or randomly initialised if these "
        "are not available)",
    )
    cli.add_data_dir(parser)
    add(
        "--output-dir",
        type=cli.path,
        default="runs/comparison",
        metavar="DIR",
        help="folder for run directories and results (default: %(default)s)",
    )
    add(
        "--workers",
        type=cli.number(int, 1, 1000),
        metavar="N",
        help="number of trainings at a time on this machine, with Dask (default: 1, without Dask)",
    )
    add(
        "--scheduler",
        metavar="ADDRESS",
        help="address of a Dask scheduler whose workers train; they need access to the same "
        "folders (default: train on this machine)",
    )
    options = parser.parse_args(argv)
    if options.workers and options.scheduler:
        parser.error("--workers is for this machine; leave it out with --scheduler")
    if options.weights and "mobilenet" not in expand(options.names):
        parser.error("--weights is for mobilenet only, which is not among the contestants")
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
        atomic_io.check_writable(Path(options.output_dir))
        runtime.check_versions()
        runtime.import_matplotlib()
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
