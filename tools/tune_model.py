"""Search for the hyperparameters with the best validation accuracy, with Optuna.

    python -m tools.tune_model              30 trials of dropout_cnn, one to two hours
    python -m tools.tune_model --model allconv_cnn --epochs 9 --trials 50 --study small
    python -m tools.tune_model --storage postgresql+psycopg://user@host/studies

Saves figures/ and report.html in runs/studies/NAME and prints the train_cnn.py command of the best
trial. Run the same command again to resume: the study and the interrupted trial continue. Several
processes that name the same study share its trials: on one machine without further options, on
several machines with a --storage that all of them can reach.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__" and not __package__:  # run as a file, which cannot import fmnist
    sys.exit("start this command in the project's folder: python -m tools.tune_model")

from fmnist import atomic_io, cli, runtime
from fmnist.config import MODEL_NAMES, ConfigError, TrainConfig
from tools.tuning.space import SPACE


def parse_options(argv: list[str] | None = None) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Return the parsed options and the settings that all trials share.

    Exits with code 2 on an invalid option.
    """
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add(
        "--model",
        default=MODEL_NAMES[0],
        choices=MODEL_NAMES,
        help="network whose hyperparameters are tuned (default: %(default)s)",
    )
    add(
        "--trials",
        type=cli.number(int, 1, 1e6),
        default=30,
        metavar="N",
        help="number of trials of the study, including those of earlier calls "
        "(default: %(default)s)",
    )
    add(
        "--epochs",
        type=cli.number(int, 1, 1e6),
        default=15,
        metavar="N",
        help="number of epochs of a trial (default: %(default)s)",
    )
    add(
        "--study",
        type=cli.run_name,
        default="study",
        metavar="NAME",
        help="name of the study (default: %(default)s)",
    )
    add(
        "--storage",
        metavar="URL",
        help="URL of the database that stores the study (default: a file in the study's folder)",
    )
    cli.add_sizes(parser)
    add(
        "--seed",
        type=cli.number(int, 0, 2**31),
        default=0,
        metavar="N",
        help="random seed of every training (default: %(default)s)",
    )
    cli.add_data_dir(parser)
    add(
        "--output-dir",
        type=cli.path,
        default="runs/studies",
        metavar="DIR",
        help="folder in which the study's folder is created (default: %(default)s)",
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
        atomic_io.check_writable(Path(options.output_dir))
        runtime.configure_tensorflow(concurrent_operations=2)  # the same configuration as train()
        from tools.tuning import report, study

        best = study.tune(
            options.study,
            options.trials,
            fixed,
            options.data_dir,
            options.output_dir,
            options.storage,
        )
        folder = Path(options.output_dir) / options.study
        print(f"\nSaved {folder / 'report.html'} and figures/")
        print(f"Next: {report.command(best)}")

    return cli.exit_code("tune_model.py", work, cli.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
