"""Train a network further on photographs, so that it classifies photographs better.

    python -m tools.finetune_photos PHOTOS                    start from pretrained/photo
    python -m tools.finetune_photos PHOTOS --run runs/RUN     start from another run

PHOTOS is a folder with one subfolder per class, or a CSV file with the columns file and label, see
docs/photos.md. A fifth of the photographs is held out for validation; if the CSV file has a column
sender, no sender is on both sides. The first half of an ensemble, rounded down, stays as it is; a
single network becomes an ensemble with itself. The test set of Fashion-MNIST is not used. Writes a
run directory, which all other commands accept.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__" and not __package__:  # run as a file, which cannot import fmnist
    sys.exit("start this command in the project's folder: python -m tools.finetune_photos")

from fmnist import atomic_io, cli, runs, runtime


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed options. Exits with code 2 on an invalid option."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    cli.add_photos(parser)
    add(
        "--run",
        type=cli.path,
        default=str(runs.FOR_PHOTOS),
        metavar="RUN",
        help="finished run from whose weights the training starts (default: pretrained/photo)",
    )
    add(
        "--epochs",
        type=cli.number(int, 1, 1000),
        default=10,
        metavar="N",
        help="number of epochs (default: %(default)s)",
    )
    cli.add_seed(parser)
    add(
        "--name",
        type=cli.run_name,
        metavar="NAME",
        help="name of the run directory (default: date, time and network)",
    )
    add(
        "--runs-dir",
        type=cli.path,
        default="runs",
        metavar="DIR",
        help="folder for run directories (default: %(default)s)",
    )
    cli.add_data_dir(parser)
    return parser.parse_args(argv)


def finetune(options: argparse.Namespace) -> Path:
    """Train a network further and return its run directory.

    Args:
        options: result of parse_options().

    Raises:
        UserError: a DataError, a RunError, a LabelError or a FinetuneError.
    """
    start = Path(options.run)
    atomic_io.check_writable(Path(options.runs_dir), "--runs-dir")
    runs.check_new(Path(options.runs_dir), options.name)
    runtime.configure_tensorflow(options.seed)
    import numpy as np

    import data
    from fmnist.inference import calibration, labelled_photos, segmentation, whole_photo
    from fmnist.training import photo_labels
    from tools.finetuning import dataset, training

    record = runs.load_evaluation_config(start)
    if not runs.is_finished(start):
        raise runs.RunError(f"--run needs a finished run, which {start} is not")
    before = calibration.load(start)
    model, ensemble = training.ensembles(runs.load_model(start), runs.load_model(start))
    fashion = data.load_for_run(record, options.data_dir)
    runs.check_fingerprint(start, fashion)
    labelled, pictures = labelled_photos.read(Path(options.photos))
    segment, classify_whole = segmentation.load(), whole_photo.load()
    train, validation = photo_labels.split(labelled, pictures)
    train = dataset.photographs(*train, segment)
    validation = dataset.photographs(*validation, segment, classify_whole)
    without = len(labelled) - len(train.images) - len(validation.images)
    print(
        f"Photographs: {len(train.images):,} to train on, {len(validation.images):,} held out; "
        f"no item found in {without:,}"
    )
    rng = np.random.default_rng([options.seed, 1])
    images, labels = fashion.train.images, fashion.train.labels
    rendered = dataset.rendered(images, labels, train.strips, segment, rng)
    sources = training.Sources(images, labels, *rendered, train)
    history = training.train(model, ensemble, sources, validation, options.epochs, options.seed)
    calibrations = training.calibrated(ensemble, fashion.validation, validation, before)
    if calibrations is None or (before and calibrations.other == before.other):
        effect = "its predictions for photographs are not calibrated"
        if before:
            effect = f"its limit of uncertain predictions is that of {start}"
        print(
            f"The run has fewer than {calibration.LEAST_PHOTOGRAPHS} held-out photographs with a "
            f"single class and a background that is not plain: {effect}"
        )
    run = save(options, record, ensemble, history, calibrations)
    print(f"Saved {run}")
    return run


def save(
    options: argparse.Namespace,
    record: dict[str, Any],
    model: Any,
    history: list[dict[str, float]],
    calibrations: Any,
) -> Path:
    """Write a run directory and return its path. Raises RunError.

    Args:
        options: result of parse_options().
        record: config.json of the run from whose weights the training started.
        model: trained ensemble.
        history: result of training.train().
        calibrations: calibration.Calibrations; None without enough photographs.
    """
    from fmnist import networks
    from fmnist.inference import calibration
    from fmnist.training import photo_labels
    from tools.finetuning import training

    members = len(networks.members_of(model))
    unchanged = training.unchanged(members)
    trained = members - unchanged
    smoothing = unchanged * record["label_smoothing"] + trained * photo_labels.SMOOTHING
    settings = {
        "recipe": None,
        "name": options.name,
        "ensemble_size": members,
        "runs_dir": options.runs_dir,
        "init_from": options.run,
        "epochs": options.epochs,
        "seed_of_photographs": options.seed,
        "optimizer": "adam",
        "learning_rate": training.LEARNING_RATE,
        "weight_decay": training.WEIGHT_DECAY,
        "batch_size": training.BATCH,
        "label_smoothing": smoothing / members,  # of the mean output
        "schedule": "cosine",
        "augment": "photo",
        "patience": 0,
        "ema_epochs": 0,
        "prune_every": 1,
        "tensorboard": False,
        "photographs": options.photos,
    }
    own = {key: value for key, value in record.items() if key not in runs.OTHER_KEYS}
    record = {**own, "fingerprint": record["fingerprint"], **settings}
    run = runs.create(options.runs_dir, options.name, record)
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    runs.save_epoch(run, history, model)
    if calibrations:
        calibration.save(run, calibrations)
    runs.finish(run)
    return run


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parse_options(argv)

    def work() -> None:
        run = shlex.quote(str(finetune(options)))
        print(f"Next: python -m tools.predict_image photo.jpg --run {run}")

    return cli.exit_code("finetune_photos.py", work)


if __name__ == "__main__":
    sys.exit(main())
