"""Export a trained network to other runtimes and verify every export on the test set.

    python -m tools.export_model              the newest finished run, else pretrained/best
    python -m tools.export_model --run runs/my_run --formats onnx litert_int8

    saved_model     TensorFlow SavedModel in the folder layout of TensorFlow Serving
    onnx            ONNX Runtime
    litert          LiteRT, formerly TensorFlow Lite
    litert_int8     LiteRT with weights and activations of 8 bits, a quarter of the size; input and
                    output are float32

All formats take images (N, 28, 28, 1) in [0, 1] and return class probabilities (N, 10). These are
the probabilities of model.keras, without test-time augmentation and calibration. Saves the
exports that agree with model.keras, and exports.json, in the folder exports of the run.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a file, which cannot import fmnist
    sys.exit("start this command in the project's folder: python -m tools.export_model")

from fmnist import atomic_io, cli, runs, runtime

FORMAT_NAMES = ("saved_model", "onnx", "litert", "litert_int8")


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed options. Exits with code 2 on an invalid option."""
    parser = cli.Parser(__doc__)
    cli.add_run_options(parser)
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=FORMAT_NAMES,
        default=list(FORMAT_NAMES),
        metavar="FORMAT",
        help=f"formats to export: {', '.join(FORMAT_NAMES)} (default: all)",
    )
    cli.add_data_dir(parser)
    parser.add_argument(
        "--output-dir",
        type=cli.path,
        metavar="DIR",
        help="folder for the exports (default: the folder exports in the run; in --runs-dir for "
        "pretrained/best)",
    )
    return parser.parse_args(argv)


def default_folder(run: Path, runs_dir: str) -> Path:
    """Return the default output folder: in the run, but for pretrained/best in `runs_dir`."""
    pretrained = run.resolve() == runs.BEST.resolve()
    return (Path(runs_dir) if pretrained else run) / "exports"


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)

    def work() -> None:
        run = runs.find_run(options.run, options.runs_dir)
        print(f"Run: {run}")
        folder = Path(options.output_dir or default_folder(run, options.runs_dir))
        atomic_io.check_writable(folder)
        runtime.configure_tensorflow()
        from tools.exporting import export

        rows, failures = export.export(
            run, dict.fromkeys(options.formats), folder, options.data_dir
        )
        print(f"\n{cli.table(export.HEAD, export.table_rows(rows))}\n")
        saved = [
            str(folder / export.FORMATS[name].path) for name in options.formats if name in rows
        ]
        if saved:
            print(f"Saved {', '.join(saved)}")
        if failures:
            raise export.ExportError(
                "; ".join(f"{name}: {reason}" for name, reason in failures.items())
            )

    return cli.exit_code("export_model.py", work)


if __name__ == "__main__":
    sys.exit(main())
