"""Explore Fashion-MNIST: classes, pixel values, similar images and duplicates.

    python -m tools.explore_data                 about two minutes
    python -m tools.explore_data --data-dir DIR

Saves figures/, findings.json and report.html in runs/exploration.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a file, which cannot import fmnist
    sys.exit("start this command in the project's folder: python -m tools.explore_data")

from fmnist import atomic_io, cli, runtime, source


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed options. Exits with code 2 on an invalid option."""
    parser = cli.Parser(__doc__)
    cli.add_data_dir(parser)
    parser.add_argument(
        "--val-size",
        type=float,
        default=5000,
        metavar="SIZE",
        help="size of the validation set: a number of images, or a fraction below 1 "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=cli.path,
        default="runs/exploration",
        metavar="DIR",
        help="folder for the results (default: %(default)s)",
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
        atomic_io.check_writable(Path(options.output_dir))
        runtime.configure_tensorflow()
        from tools.exploration import findings

        found = findings.explore(options.data_dir, options.val_size, options.output_dir)
        print("\n" + "\n\n".join(findings.sentences(found)) + "\n")
        print(f"Saved {Path(options.output_dir) / 'report.html'}, findings.json and figures/")
        print("Next: python train_cnn.py")

    return cli.exit_code("explore_data.py", work)


if __name__ == "__main__":
    sys.exit(main())
