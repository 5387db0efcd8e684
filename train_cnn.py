"""Train a convolutional network on Fashion-MNIST with early stopping.

    python train_cnn.py                             default network, about one minute
    python train_cnn.py --recipe quick              other network and settings, more accurate
    python train_cnn.py --model gap_cnn --seed 1    another network, another random seed
    python train_cnn.py --limit 6000 --epochs 3     short trial on 6,000 images
    python train_cnn.py --resume                    resume the newest interrupted run

Writes a run directory to runs/ with the weights, the training history and all settings. From
Python: train(TrainConfig(model="gap_cnn", epochs=3)) returns the path of the run directory.
"""

import dataclasses
import functools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmnist import atomic_io, cli, recipe_results, runs, runtime
from fmnist.config import TrainConfig, parse_arguments

STEPS_PER_EXECUTION = 32  # training steps per call from Python into TensorFlow
VALIDATION_BATCH = 250  # images


def train(config: TrainConfig, run: Path | None = None, callbacks: Sequence[Any] = ()) -> Path:
    """Train a network and return the path of its run directory.

    Args:
        config: all settings.
        run: unfinished run directory with the same settings, to resume; None starts a new run.
        callbacks: Keras callbacks, called after each epoch has been saved.

    Raises:
        UserError: a DataError, a RunError or a TrainingError.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the message names the saved files.
    """
    atomic_io.check_writable(run or Path(config.runs_dir), "--runs-dir")
    # The engine fast computes the two halves of a batch at the same time.
    runtime.configure_tensorflow(config.seed, None if config.engine == "plain" else 2)
    import keras

    import data
    from fmnist import networks
    from fmnist.training import augmentation, data_pruning, engines, loop, optimizers, whitening
    from model import build_model

    config = engines.choose(config)
    dataset = data.load(config.data_dir, config.val_size, config.limit, config.seed, config.fold)
    train_size, val_size = len(dataset.train.labels), len(dataset.validation.labels)
    print(f"Data: {dataset.source}; {train_size:,} training and {val_size:,} validation images")
    random_stream = loop.random_stream(config.seed)  # for the order of images, and augmentation
    pruning = data_pruning.prune(train_size, config.prune_every)
    train_batches = data.batches(
        dataset.train,
        config.batch_size,
        shuffle=random_stream,
        pruning=pruning,
        augment=functools.partial(augmentation.augment, kind=config.augment),
    )

    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)
    optimizer = optimizers.build_optimizer(config, steps_per_epoch=len(train_batches))
    with engines.precision(config.mixed_precision):
        model = build_model(config.model, config.ensemble_size, **config.network_settings())
        networks.initialise(model, config.seed)
        whitening.whiten(model, dataset.train.images)
        # This model trains the weights of `model`, with the engine fast in less time.
        training_model = engines.training_model(model, config, optimizer.iterations, pruning)
    training_model.compile(
        optimizer, loss, weighted_metrics=["accuracy"], steps_per_execution=STEPS_PER_EXECUTION
    )
    # The saved model gets an optimizer without state, so that plain Keras loads it completely.
    model.compile("sgd", loss, metrics=["accuracy"], auto_scale_loss=False)

    monitors = []  # callbacks that monitor the validation loss
    if config.schedule == "plateau":
        monitors.append(keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=2, min_delta=0))
    if config.patience:
        monitors.append(keras.callbacks.EarlyStopping(patience=config.patience))

    # After each epoch, the saver writes the history, a checkpoint and, if improved, the weights.
    with loop.open_run(run, config, dataset, model, training_model, random_stream) as saver:
        if not saver.is_done():
            training_model.fit(
                train_batches,
                validation_data=data.batches(dataset.validation, VALIDATION_BATCH),
                initial_epoch=len(saver.history),
                epochs=config.epochs,
                callbacks=[*saver.callbacks(*monitors), *callbacks],
                shuffle=False,
                verbose=cli.verbosity(),
            )
        saver.save_final()
    return saver.run


def resume(run: Path, data_dir: str | None = None, callbacks: Sequence[Any] = ()) -> Path:
    """Resume an unfinished run and return its path; a finished run is not trained again.

    Args:
        run: path of the run directory.
        data_dir: folder with the data; None for the data_dir of the run.
        callbacks: see train().

    Raises:
        UserError, KeyboardInterrupt: see train().
    """
    if runs.is_finished(run):
        print(f"{run} is finished already. {runs.how_to_train_further(run)}")
        atomic_io.remove_stale_temp_files(run)  # left by a process that was killed at the end
        return run
    config = runs.load_train_config(run)
    config = dataclasses.replace(config, data_dir=data_dir or config.data_dir)
    return train(config, run, callbacks)


def train_or_resume(config: TrainConfig, callbacks: Sequence[Any] = ()) -> Path:
    """Return the finished run `config.name`; train or resume it if needed. Raises: see train()."""
    run = Path(config.runs_dir) / config.name
    if not run.exists():
        return train(config, callbacks=callbacks)
    if not config.gives_the_same_as(runs.load_config(run)):
        raise runs.RunError(
            f"{run} was trained with other settings; remove it, or choose another output folder"
        )
    return resume(run, config.data_dir, callbacks)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    config, options = parse_arguments(__doc__, argv)

    def work() -> None:
        if config:
            run = train(config)
        else:
            newest = options.resume is True
            run = runs.newest(options.runs_dir, finished=False) if newest else Path(options.resume)
            run = resume(run, options.data_dir)
        others = recipe_results.other_recipes(runs.load_config(run).get("recipe"))
        print(*others, f"Next: python evaluate_model.py {shlex.quote(str(run))}", sep="\n")

    return cli.exit_code("train_cnn.py", work)


if __name__ == "__main__":
    sys.exit(main())
