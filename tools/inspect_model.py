"""Look inside a trained network: what it learned, where it looks, and where it fails.

    python -m tools.inspect_model                   newest finished run, else pretrained/best
    python -m tools.inspect_model runs/my_run       this run, in about a minute
    python -m tools.inspect_model --label-issues    also find labels that are probably wrong
    python -m tools.inspect_model RUN OTHER --robustness
                                                    compare the accuracy on corrupted test images

Writes inspection.html (or robustness.html) with all figures, figures/ and tables/ to the folder
inspection of the run; for a pretrained network, to runs/inspection-NAME.
"""

import argparse
import shlex
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a file, which cannot import fmnist
    sys.exit("start this command in the project's folder: python -m tools.inspect_model")

from fmnist import atomic_io, cli, runs, runtime


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed options. Exits with code 2 on an invalid option."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add(
        "runs",
        nargs="*",
        type=cli.path,
        metavar="RUN",
        help="run directory (default: the newest finished run, else pretrained/best); several with "
        "--robustness",
    )
    cli.add_runs_dir(parser)
    cli.add_data_dir(parser)
    add(
        "--output-dir",
        type=cli.path,
        metavar="DIR",
        help="folder for the results (default: inspection in the run directory)",
    )
    add(
        "--label-issues",
        action="store_true",
        help="also list images whose label is probably wrong; the first time, this trains five "
        "networks for about five minutes (default: off)",
    )
    add(
        "--robustness",
        action="store_true",
        help="score the runs on corrupted test images instead of inspecting one (default: off)",
    )
    options = parser.parse_args(argv)
    if len(options.runs) > 1 and not options.robustness:
        parser.error("several runs can be compared with --robustness only")
    if options.robustness and options.label_issues:
        parser.error("--robustness and --label-issues exclude each other; leave one out")
    return options


def output_folder(output_dir: str | None, run: Path, runs_dir: str) -> Path:
    """Return the folder for the results. The networks of the project are not written to."""
    if output_dir:
        return Path(output_dir)
    if runs.PRETRAINED.resolve() in run.resolve().parents:
        return Path(runs_dir) / f"inspection-{run.name}"
    return run / "inspection"


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)

    def work() -> None:
        selected = [Path(run) for run in options.runs] or [runs.find_run(None, options.runs_dir)]
        for run in selected:
            runs.load_evaluation_config(run)
            if (run / runs.CHECKPOINT).exists():
                raise runs.RunError(
                    f"{run} is not finished. To resume: python train_cnn.py --resume "
                    f"{shlex.quote(str(run))}"
                )
        folder = output_folder(options.output_dir, selected[0], options.runs_dir)
        atomic_io.check_writable(folder)
        print(f"Run: {', '.join(map(str, selected))}")
        # Two concurrent operations are for the trainings.
        runtime.configure_tensorflow(concurrent_operations=2 if options.label_issues else None)
        if options.robustness:
            from tools.inspection import robustness, robustness_report

            results = robustness.measure(selected, options.data_dir, folder)
            print(f"\n{robustness_report.text(results)}\n")
            page = folder / "robustness.html"
        else:
            from tools.inspection import inspection

            inspection.inspect_run(selected[0], options.data_dir, folder, options.label_issues)
            page = folder / "inspection.html"
        print(f"Saved {page}, figures/ and tables/")
        print(f"Next: open {page} in a browser")

    # Only the networks that are trained for the label issues are kept.
    interrupted = cli.INTERRUPTED if options.label_issues else None
    return cli.exit_code("inspect_model.py", work, interrupted)


if __name__ == "__main__":
    sys.exit(main())
