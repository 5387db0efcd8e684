"""Look at Fashion-MNIST before any training.

    python -m tools.explore_data                 some two minutes
    python -m tools.explore_data --data-dir DIR

Leaves figures/, findings.json and report.html in runs/exploration.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started as a file, which finds no other
    sys.exit("run it from the project's folder: python -m tools.explore_data")

from fmnist import cli, runtime, source


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the options. Exits with code 2 on a wrong one."""
    parser = cli.Parser(__doc__)
    cli.add_data_dir(parser)
    parser.add_argument(
        "--val-size",
        type=float,
        default=5000,
        help="validation images out of the 60,000: a count, or a fraction below 1 (%(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=cli.path,
        default="runs/exploration",
        help="where the results are written (%(default)s)",
    )
    options = parser.parse_args(argv)
    try:
        source.split_sizes(options.val_size)
    except source.DataError as error:
        parser.error(str(error))
    return options


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)

    def work() -> None:
        runtime.configure_tensorflow()
        from tools.exploration import findings

        found = findings.explore(options.data_dir, options.val_size, options.output_dir)
        print("\n" + "\n\n".join(findings.sentences(found)) + "\n")
        print(f"Saved {Path(options.output_dir) / 'report.html'}, findings.json and figures/")
        print("Next: python train_cnn.py")

    return cli.exit_code("explore_data.py", work)


if __name__ == "__main__":
    sys.exit(main())
