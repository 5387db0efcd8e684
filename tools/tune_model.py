"""Search for the options of train_cnn.py that give the best validation accuracy, with Optuna.

    python -m tools.tune_model              thirty trials of dropout_cnn, an hour or two
    python -m tools.tune_model --model allconv_cnn --epochs 9 --trials 50 --study small
    python -m tools.tune_model --storage postgresql+psycopg://user@host/studies

A study that was broken off goes on with the same command, and so does the trial that was in
progress. Several processes that name the same study share its trials: on one machine as it is, on
several with a --storage that all of them reach. Leaves figures/ and report.html in
runs/studies/NAME, and ends with the train_cnn.py command that trains the winner.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__" and not __package__:  # started as a file, which finds no other
    sys.exit("run it from the project's folder: python -m tools.tune_model")

from fmnist import cli, runtime
from fmnist.config import MODEL_NAMES, ConfigError, TrainConfig
from tools.tuning.space import SPACE


def parse_options(argv: list[str] | None = None) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Return the options, and the settings of every trial. Exits with code 2 on a wrong option."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add(
        "--model",
        default=MODEL_NAMES[0],
        choices=MODEL_NAMES,
        help="network of model.py (%(default)s)",
    )
    add(
        "--trials",
        type=cli.number(int, 1, 1e6),
        default=30,
        help="of the whole study (%(default)s)",
    )
    add("--epochs", type=cli.number(int, 1, 1e6), default=15, help="of a trial (%(default)s)")
    add("--study", type=cli.run_name, default="study", help="its name (%(default)s)")
    add("--storage", metavar="URL", help="database that keeps the study (a file in its folder)")
    cli.add_sizes(parser)
    add("--seed", type=cli.number(int, 0, 2**31), default=0, help="of every training (%(default)s)")
    cli.add_data_dir(parser)
    add(
        "--output-dir",
        type=cli.path,
        default="runs/studies",
        help="where the study's folder is made (%(default)s)",
    )
    options = parser.parse_args(argv)
    fixed = {
        "model": options.model,
        "epochs": options.epochs,
        "patience": 0,
        "seed": options.seed,
        **cli.sizes(options),
    }
    try:
        TrainConfig(**fixed, batch_size=max(SPACE["batch_size"]))
    except ConfigError as error:
        parser.error(str(error))
    return options, fixed


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options, fixed = parse_options(argv)

    def work() -> None:
        runtime.configure_tensorflow(concurrent_operations=2)  # as train() does
        from tools.tuning import report, study

        winner = study.tune(
            options.study,
            options.trials,
            fixed,
            options.data_dir,
            options.output_dir,
            options.storage,
        )
        folder = Path(options.output_dir) / options.study
        print(f"\nSaved {folder / 'report.html'} and figures/")
        print(f"Next: {report.command(winner)}")

    return cli.exit_code("tune_model.py", work, cli.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
