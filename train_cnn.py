"""Train a convolutional network on Fashion-MNIST, with early stopping.

    python train_cnn.py                            the default network, about eight minutes
    python train_cnn.py --recipe quick             more accurate in a minute
    python train_cnn.py --model gap_cnn --seed 1
    python train_cnn.py --limit 6000 --epochs 3    a quick look
    python train_cnn.py --resume                   resume the newest run that was interrupted

From Python: train(TrainConfig(model="gap_cnn", epochs=3)) returns the run.

Leaves a run directory in runs/ with the best weights, the history and every setting.
"""

import dataclasses
import functools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmnist import atomic_io, cli, runs, runtime
from fmnist.config import TrainConfig, parse_arguments

STEPS_PER_EXECUTION = 32  # batches between two returns to Python
VALIDATION_BATCH = 250


def train(config: TrainConfig, run: Path | None = None, callbacks: Sequence[Any] = ()) -> Path:
    """Train one network as the config says and return the path of its run directory.

    Args:
        config: every setting.
        run: an unfinished run directory of that very config, to resume; None for a new one.
        callbacks: of Keras, that are called after an epoch is saved.

    Raises:
        UserError: DataError, RunError or TrainingError.
        KeyboardInterrupt: with a message that says what was saved.
    """
    runtime.configure_tensorflow(config.seed, concurrent_operations=2)  # the halves of a batch
    import keras
    import tensorflow as tf

    import data
    from fmnist import networks
    from fmnist.training import augmentation, data_pruning, fast_model, loop, optimizers, whitening
    from model import build_model

    dataset = data.load(config.data_dir, config.val_size, config.limit, config.seed)
    train_size, val_size = len(dataset.train.labels), len(dataset.validation.labels)
    print(f"Data: {dataset.source}; {train_size:,} images to train, {val_size:,} to validate")
    random_stream = tf.Variable([config.seed, 0])  # seed and epoch: of order and augmentation
    every = config.prune_every
    pruning = data_pruning.DataPruning(train_size, every) if every > 1 else None
    training = data.batches(
        dataset.train,
        config.batch_size,
        shuffle=random_stream,
        pruning=pruning,
        augment=functools.partial(augmentation.augment, kind=config.augment),
    )
    validation = data.batches(dataset.validation, VALIDATION_BATCH)

    model = build_model(config.model, config.ensemble_size, **config.network_settings())
    networks.initialise(model, config.seed)
    whitening.whiten(model, dataset.train.images)

    # What is saved opens without this project, whose optimizer and schedule it would not know.
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)
    model.compile("adam", loss, metrics=["accuracy"])
    # What is fitted trains the same weights in half of the time.
    optimizer = optimizers.build_optimizer(config, steps_per_epoch=len(training))
    fast = fast_model.accelerate(model, config.seed, optimizer.iterations, pruning)
    fast.compile(
        optimizer, loss, weighted_metrics=["accuracy"], steps_per_execution=STEPS_PER_EXECUTION
    )

    watchers = []  # of the validation loss
    if config.schedule == "plateau":
        watchers.append(keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=2, min_delta=0))
    if config.patience:
        watchers.append(keras.callbacks.EarlyStopping(patience=config.patience))

    # The saver writes the best weights, the history and a checkpoint at every epoch's end.
    with loop.open_run(run, config, dataset, model, fast, random_stream) as saver:
        if not saver.is_done():
            fast.fit(
                training,
                validation_data=validation,
                initial_epoch=len(saver.history),
                epochs=config.epochs,
                callbacks=[*saver.callbacks(*watchers), *callbacks],
                shuffle=False,
                verbose=1 if sys.stdout.isatty() else 2,
            )
        saver.save_final()
    return saver.run


def resume(run: Path, data_dir: str | None = None, callbacks: Sequence[Any] = ()) -> Path:
    """Train an unfinished run to its end, a finished one not at all, and return its path.

    Args:
        run: a run directory.
        data_dir: where the data is, if no longer where the run had it.
        callbacks: as of train().

    Raises:
        UserError, KeyboardInterrupt: as train() does.
    """
    if runs.is_finished(run):
        print(f"{run} is finished.")
        atomic_io.remove_stale_temp_files(run)  # it may have been killed while it finished
        return run
    config = runs.load_train_config(run)
    config = dataclasses.replace(config, data_dir=data_dir or config.data_dir)
    return train(config, run, callbacks)


def train_or_resume(config: TrainConfig, callbacks: Sequence[Any] = ()) -> Path:
    """Return the run of the config's name, trained to its end. Raises what train() raises."""
    run = Path(config.runs_dir) / config.name
    if not run.exists():
        return train(config, callbacks=callbacks)
    if not config.gives_the_same_as(runs.load_config(run)):
        raise runs.RunError(
            f"{run} was made with other options; choose another place for runs, or remove it"
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
        print(f"Next: python evaluate_model.py {shlex.quote(str(run))}")

    return cli.exit_code("train_cnn.py", work)


if __name__ == "__main__":
    sys.exit(main())
