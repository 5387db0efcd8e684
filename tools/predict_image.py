"""Classify pictures of clothes, shoes and bags.

    python -m tools.predict_image shoe.jpg
    python -m tools.predict_image photos/ --run runs/my_run --figure
    python -m tools.predict_image shoe.jpg shirt.png --json > predictions.json

The item is cut out of its background, centred and converted to greyscale first
(fmnist/inference/photo.py). Without --run, pretrained/photo classifies photographs, and the newest
finished run, else pretrained/best, classifies pictures of 28 × 28 pixels.
"""

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__" and not __package__:  # run as a file, which cannot import fmnist
    sys.exit("start this command in the project's folder: python -m tools.predict_image")

from fmnist import atomic_io, cli, runtime


class PredictError(cli.UserError):
    """None of the pictures can be read."""


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed options. Exits with code 2 on an invalid option."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add(
        "pictures",
        nargs="+",
        type=cli.path,
        metavar="FILE|FOLDER",
        help="picture files, or folders that are searched for pictures",
    )
    cli.add_run_options(parser)
    add(
        "--json",
        action="store_true",
        help="print the predictions as a JSON list (default: a table)",
    )
    add(
        "--figure",
        action="store_true",
        help="draw every picture with its model input and class probabilities (default: off)",
    )
    add(
        "--output-dir",
        type=cli.path,
        default="runs/predictions",
        metavar="DIR",
        help="folder for the figures of --figure (default: %(default)s)",
    )
    return parser.parse_args(argv)


def print_table(predictions: dict[Path, dict[str, Any]]) -> None:
    """Print one line per picture."""
    width = max((len(str(path)) for path in predictions), default=0)
    for path, prediction in predictions.items():
        candidates = [
            f"{candidate['label']} {candidate['confidence']:.1%}"
            for candidate in prediction["top_k"]
        ]
        text = f"{candidates[0]:19}  ({', '.join(candidates[1:])})" if candidates else "no item"
        warnings = "; ".join(prediction["warnings"])
        if warnings:
            text += f"; {'uncertain' if prediction['uncertain'] else 'warning'}: {warnings}"
        print(f"{str(path):{width}}  {text}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)
    # With --json, standard output is JSON only.
    report = functools.partial(print, file=sys.stderr if options.json else sys.stdout)

    def work() -> None:
        folder = Path(options.output_dir)
        if options.figure:
            atomic_io.check_writable(folder)
        runtime.configure_tensorflow()
        from fmnist.inference.classifier import load_photo_classifier
        from tools.prediction import pictures

        paths = pictures.find(options.pictures)
        classifier = load_photo_classifier(options.run, options.runs_dir)
        report(classifier.description())
        predictions, unreadable, photos = pictures.predict(paths, classifier, options.figure)
        if options.json:
            print(
                json.dumps(
                    [{"file": str(path), **prediction} for path, prediction in predictions.items()],
                    indent=2,
                )
            )
        else:
            print_table(predictions)
        for path, reason in unreadable.items():
            reason = cli.one_line(reason)
            print(f"predict_image.py: skipped {path}: {reason}", file=sys.stderr)
        if not predictions:
            raise PredictError("none of the pictures can be read")
        if options.figure:
            pictures.draw(folder, photos, predictions)
            more = " and more" if len(predictions) > pictures.ON_A_FIGURE else ""
            report(f"Saved {folder}/predictions-1.png{more}")
        else:
            report("Next: add --figure to draw the model inputs and class probabilities")

    return cli.exit_code("predict_image.py", work)


if __name__ == "__main__":
    sys.exit(main())
