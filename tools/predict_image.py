"""Tell what garment is on pictures, JPEG, PNG or WebP, on a ground of any colour.

    python -m tools.predict_image shoe.jpg   by the newest finished run, else by pretrained/best
    python -m tools.predict_image photos/ --run runs/my_run --figure
    python -m tools.predict_image shoe.jpg shirt.png --json > answers.json

A picture is cut out, centred and greyed first (fmnist/inference/photo.py). It is called unsure
where that may have failed, or where it is unlike all that the network was trained on: the answer is
its best guess all the same.
"""

import argparse
import functools
import json
import shlex
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__" and not __package__:  # started as a file, which finds no other
    sys.exit("run it from the project's folder: python -m tools.predict_image")

from fmnist import cli, runs, runtime


class PredictError(cli.UserError):
    """No picture could be read."""


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the options. Exits with code 2 on a wrong one."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add(
        "pictures",
        nargs="+",
        type=cli.path,
        metavar="FILE|FOLDER",
        help="pictures, or folders of them",
    )
    cli.add_run_options(parser)
    add("--json", action="store_true", help="print a list of objects instead of a table")
    add(
        "--figure",
        action="store_true",
        help="draw every picture, what the network saw of it, and the probabilities",
    )
    add(
        "--output-dir",
        type=cli.path,
        default="runs/predictions",
        help="where --figure draws (%(default)s)",
    )
    return parser.parse_args(argv)


def print_table(predictions: dict[Path, dict[str, Any]]) -> None:
    """Print a line a picture."""
    width = max((len(str(path)) for path in predictions), default=0)
    for path, prediction in predictions.items():
        best, *others = (
            f"{guess['label']} {guess['confidence']:.1%}" for guess in prediction["guesses"]
        )
        doubt = f"; unsure: {prediction['doubts'][0]}" if prediction["doubts"] else ""
        print(f"{str(path):{width}}  {best:19}  ({', '.join(others)}){doubt}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)
    say = functools.partial(print, file=sys.stderr if options.json else sys.stdout)

    def work() -> None:
        runtime.configure_tensorflow()
        from fmnist.inference.classifier import load_classifier
        from tools.prediction import pictures

        paths = pictures.find(options.pictures)
        run = runs.find_run(options.run, options.runs_dir)
        say(f"Run: {run}")
        classifier = load_classifier(run)
        if classifier.known is None:
            say(
                "Confidences are not calibrated, and nothing strange is recognised, before: "
                f"python evaluate_model.py {shlex.quote(str(run))}"
            )
        folder = Path(options.output_dir)
        predictions, unreadable = pictures.predict(
            paths, classifier, folder if options.figure else None
        )
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
            print(f"predict_image.py: {path}: {cli.one_line(reason)}", file=sys.stderr)
        if not predictions:
            raise PredictError("no picture could be read")
        if options.figure:
            more = " and more" if len(predictions) > pictures.ON_A_FIGURE else ""
            say(f"Saved {folder}/predictions-1.png{more}")
        else:
            say("Next: the same command with --figure shows what the network saw")

    return cli.exit_code("predict_image.py", work)


if __name__ == "__main__":
    sys.exit(main())
