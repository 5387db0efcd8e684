"""Export a trained network for other runtimes, and keep the exports that agree with it.

    python -m tools.export_model              the newest finished run, else pretrained/best
    python -m tools.export_model --run runs/my_run --formats onnx litert_int8

    saved_model     a TensorFlow SavedModel in the layout of TensorFlow Serving
    onnx            for ONNX Runtime
    litert          for LiteRT, once TensorFlow Lite
    litert_int8     the same with weights and activations of 8 bits, a quarter of the size;
                    images and probabilities are float

Each export is run on the test images. All take images (N, 28, 28, 1) in [0, 1] and give
probabilities (N, 10), those of model.keras: without test-time flips and without the temperature of
evaluate_model.py. Leaves those that agree, and exports.json, in the folder exports of the run.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started as a file, which finds no other
    sys.exit("run it from the project's folder: python -m tools.export_model")

from fmnist import cli, runs, runtime

FORMAT_NAMES = ("saved_model", "onnx", "litert", "litert_int8")


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the options. Exits with code 2 on a wrong one."""
    parser = cli.Parser(__doc__)
    cli.add_run_options(parser)
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=FORMAT_NAMES,
        default=list(FORMAT_NAMES),
        metavar="FORMAT",
        help=f"some of {', '.join(FORMAT_NAMES)} (all)",
    )
    cli.add_data_dir(parser)
    parser.add_argument(
        "--output-dir",
        type=cli.path,
        help="where the exports are written (exports in the run, or in --runs-dir)",
    )
    return parser.parse_args(argv)


def default_folder(run: Path, runs_dir: str) -> Path:
    """Return where exports go: into the run, but for the one that comes with the project."""
    pretrained = run.resolve() == runs.PRETRAINED.resolve()
    return (Path(runs_dir) if pretrained else run) / "exports"


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)

    def work() -> None:
        run = runs.find_run(options.run, options.runs_dir)
        print(f"Run: {run}")
        folder = Path(options.output_dir or default_folder(run, options.runs_dir))
        runtime.configure_tensorflow()
        from tools.exporting import export

        rows, failures = export.export(
            run, dict.fromkeys(options.formats), folder, options.data_dir
        )
        print(f"\n{cli.table(export.HEAD, export.table_rows(rows))}\n")
        kept = [str(folder / export.FORMATS[name].path) for name in options.formats if name in rows]
        if kept:
            print(f"Saved {', '.join(kept)}")
        if failures:
            raise export.ExportError(
                "; ".join(f"{name}: {reason}" for name, reason in failures.items())
            )

    return cli.exit_code("export_model.py", work)


if __name__ == "__main__":
    sys.exit(main())
