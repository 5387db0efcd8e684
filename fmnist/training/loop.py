"""The work around model.fit: run directory, saving, resuming, interrupts and errors."""

import contextlib
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from fmnist import cli, runs
from fmnist.config import ADDED_LATER, SHARED_WITH_START, TrainConfig, flag
from fmnist.networks import pretrained_weights, set_backbone_weights
from fmnist.source import socket_timeout
from fmnist.training import checkpoint, interrupts, tensorboard_log
from fmnist.training.plain_model import dropout_states


class TrainingError(cli.UserError):
    """Training cannot continue."""


class Diverged(TrainingError):
    """Training diverged, and would diverge again with the same settings."""


@contextlib.contextmanager
def open_run(
    run: Path | None,
    config: TrainConfig,
    dataset: Any,
    model: keras.Model,
    training_model: keras.Model,
    random_stream: tf.Variable,
) -> Iterator["EpochSaver"]:
    """Create a run directory, or restore an unfinished run, and yield its EpochSaver.

    Args:
        run: unfinished run directory; None creates a new one.
        config: all settings.
        dataset: a data.Dataset.
        model: model to save.
        training_model: model to fit, compiled; see engines.training_model().
        random_stream: variable with seed and epoch, from which the batches derive all random
            numbers.

    Raises:
        RunError: the run cannot be created, was trained on other data, or is being trained by
            another process.
        TrainingError: training cannot continue. The message names the saved files.
        KeyboardInterrupt: after Ctrl-C or SIGTERM. The message names the saved files.
        ModuleNotFoundError: the config needs the package tensorboard, which is not installed.
    """
    if config.tensorboard:
        tensorboard_log.check_installed()
    training_model.optimizer.build(training_model.trainable_variables)
    starts = config.init_from or config.weights
    if starts and not (run and checkpoint.load_state(run)[1]):
        load_initial_weights(config, model)
    if run is None:
        record = config.to_record() | {"fingerprint": dataset.fingerprint}
        run = runs.create(config.runs_dir, config.name, record)
    else:
        runs.check_fingerprint(run, dataset)
    with runs.lock(run):
        saver = EpochSaver(run, config, model, training_model, random_stream)
        resumed = f"; resumed after epoch {len(saver.history)}" if saver.history else ""
        print(f"Run: {run}; {config.model} with {model.count_params():,} parameters{resumed}")
        log = contextlib.nullcontext()
        if config.tensorboard:
            log = tensorboard_log.open_log(run, model, dataset.validation)
        try:
            with (
                interrupts.message_if_killed(
                    "train_cnn.py: the process was killed or crashed, most likely because it ran "
                    f"out of memory. {less_memory(config)}. {how_to_resume(run)}"
                ),
                interrupts.deferred() as received,
                log as saver.log,
            ):
                saver.interrupts = received
                yield saver
        except KeyboardInterrupt as interrupt:
            raise type(interrupt)(f"Interrupted. {saver.end_early()}") from None
        # oneDNN raises AbortedError if memory runs out.
        except (MemoryError, tf.errors.ResourceExhaustedError, tf.errors.AbortedError):
            raise TrainingError(
                f"out of memory in epoch {len(saver.history) + 1}. {less_memory(config)}. "
                f"{saver.end_early()}"
            ) from None
        except tf.errors.UnimplementedError as error:
            if "determinis" not in str(error).lower():
                raise
            raise TrainingError(
                "TensorFlow lacks a deterministic operation for this device "
                f"({cli.one_line(error)[:200]}). Train on the CPU: CUDA_VISIBLE_DEVICES=-1 python "
                f"train_cnn.py. {saver.end_early()}"
            ) from None
        except OSError as error:
            raise TrainingError(f"{cli.one_line(error)}. {saver.end_early()}") from None
    if saver.interrupts:
        raise type(saver.interrupts[0])(
            "Interrupted after the last batch; the run is finished. Next: "
            f"python evaluate_model.py {shlex.quote(str(run))}"
        )


class EpochSaver(keras.callbacks.Callback):
    """A callback that saves the state and the history after every epoch, and the best weights.

    It also raises deferred interrupts after a batch.

    Attributes:
        run: run directory.
        history: all epochs so far, including those before the run was resumed.
        interrupts: received interrupts, see interrupts.deferred().
        log: logs for TensorBoard; None without them.
    """

    def __init__(
        self,
        run: Path,
        config: TrainConfig,
        model: keras.Model,
        training_model: keras.Model,
        random_stream: tf.Variable,
    ) -> None:
        """Restore the state of the run if it has one. For the arguments, see open_run().

        Raises:
            RunError: the state is corrupt, or belongs to another network.
        """
        super().__init__()
        self.run, self.config = run, config
        self.saved_model, self.random_stream = model, random_stream
        self.optimizer, self.interrupts, self.start_time = training_model.optimizer, [], None
        self.log = None
        self.state = [*model.weights, *self.optimizer.variables]
        if config.prune_every > 1:
            self.state.append(training_model.pruning.losses)
        if config.engine == "plain":
            self.state += dropout_states(model)
        self.history = checkpoint.restore(run, config, model, self.state)

    def is_done(self) -> bool:
        """Return whether training has ended, see runs.is_done()."""
        return runs.is_done(self.history, self.config.epochs, self.config.patience)

    def callbacks(self, *monitors: keras.callbacks.Callback) -> list[keras.callbacks.Callback]:
        """Return this callback and the others, in the order in which model.fit must call them.

        Args:
            monitors: callbacks that monitor the validation loss, such as EarlyStopping. When a run
                is resumed, their state is restored from its history.
        """
        replay = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: self.replay(monitors))
        callbacks = [self, keras.callbacks.TerminateOnNaN(), *monitors, replay]
        # In mixed precision on a GPU, the optimizer is wrapped.
        if getattr(self.optimizer, "inner_optimizer", self.optimizer).use_ema:
            # It must come first: it moves the averaged weights, which are validated and saved, into
            # the model, and moves them back before the next epoch.
            averaging = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
            # A restored model contains the averaged weights, because these were saved.
            averaging._ema_weights_in_model = bool(self.history)
            callbacks.insert(0, averaging)
        return callbacks

    def replay(self, monitors: tuple[keras.callbacks.Callback, ...]) -> None:
        """Restore the state of callbacks and the learning rate from the history of the run."""
        for row in self.history:
            if self.config.schedule == "plateau":
                self.optimizer.learning_rate = row["learning_rate"]
            for callback in monitors:
                callback.on_epoch_end(row["epoch"] - 1, dict(row))

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start the clock of the epoch, and set the epoch of the random stream."""
        self.update_seconds()
        self.start_time = time.perf_counter()
        self.random_stream.assign([self.config.seed, epoch])

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Raise a deferred interrupt."""
        if self.interrupts:
            raise self.interrupts[0]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Save the state, then the history and, if its weights are the ones to keep, the model."""
        row = {
            "epoch": epoch + 1,
            **logs,
            "learning_rate": float(self.optimizer.learning_rate),
            # Preliminary: update_seconds() adds the time for saving.
            "seconds": time.perf_counter() - self.start_time,
        }
        history = [*self.history, row]
        if self.log:
            # Before the state: if the process is killed in between, the epoch is trained again and
            # the same values are logged twice. In the other order, they would be missing.
            self.log.write(row)
        checkpoint.save_state(self.run, [variable.numpy() for variable in self.state], history)
        is_best = row is runs.chosen_epoch(self.config.patience, history)
        runs.save_epoch(self.run, history, self.saved_model if is_best else None)
        self.history.append(row)
        if runs.diverged(self.history):
            self.model.stop_training = True

    def on_train_end(self, logs: dict | None = None) -> None:
        """Save the duration of the last epoch."""
        self.update_seconds()
        runs.save_epoch(self.run, self.history)

    def update_seconds(self) -> None:
        """Set the duration of the last epoch to the time until now, which includes saving."""
        if self.start_time is not None:
            self.history[-1]["seconds"] = time.perf_counter() - self.start_time

    def save_final(self) -> None:
        """Mark the run as finished, and print which epoch was kept.

        Raises:
            Diverged: the loss is NaN or infinite.
        """
        config = self.config
        if runs.diverged(self.history):
            causes = f"--learning-rate {config.learning_rate:g}" + (
                f" or --l2 {config.l2:g}" if config.l2 else ""
            )
            raise Diverged(
                f"the loss of epoch {len(self.history)} is NaN or infinite, most likely because "
                f"{causes} is too high. {self.end_early()}"
            )
        runs.finish(self.run)
        best = runs.chosen_epoch(config.patience, self.history)
        print(
            f"\nSaved the weights of epoch {best['epoch']} of {len(self.history)}: validation "
            f"accuracy {best['val_accuracy']:.2%}, validation loss {best['val_loss']:.4f}"
        )
        print(f"Saved {self.run / runs.MODEL}, {runs.HISTORY_FILE} and {runs.CONFIG}")

    def end_early(self) -> str:
        """Remove the run if it has no weights, and return a message about the saved weights."""
        best = runs.chosen_epoch(self.config.patience, self.history)
        if best is None:
            runs.discard(self.run)
            return "No epoch was completed; nothing was saved."
        resume = "" if runs.diverged(self.history) else f". {how_to_resume(self.run)}"
        return (
            f"The {'best' if self.config.patience else 'last'} weights, those of epoch "
            f"{best['epoch']} (validation loss {best['val_loss']:.4f}), are in "
            f"{self.run / runs.MODEL}. To evaluate them: python evaluate_model.py "
            f"{shlex.quote(str(self.run))}{resume}"
        )


def how_to_resume(run: Path) -> str:
    """Return a sentence with the command that resumes a run."""
    return f"To resume: python train_cnn.py --resume {shlex.quote(str(run))}"


def less_memory(config: TrainConfig) -> str:
    """Return a sentence about how to train with less memory. Resuming keeps the batch size."""
    return f"Close other programs, or train a new run with a --batch-size below {config.batch_size}"


def random_stream(seed: int) -> tf.Variable:
    """Return a variable with seed and epoch, from which the batches derive all random numbers."""
    with tf.device("CPU"):  # the input pipeline runs on the CPU, also if a GPU trains
        return tf.Variable([seed, 0])


def load_initial_weights(config: TrainConfig, model: keras.Model) -> None:
    """Load the weights from which the training of a config starts, if it has any.

    Raises:
        RunError: the run of `init_from` cannot be used.
        TrainingError: the weights of a mobilenet cannot be loaded.
    """
    if config.init_from:
        load_weights_of_run(Path(config.init_from), config, model)
    if config.weights:
        load_backbone_weights(config, model)


def load_weights_of_run(run: Path, config: TrainConfig, model: keras.Model) -> None:
    """Load the weights of a finished run into a model with the same network. Raises RunError."""
    if not runs.is_finished(run):
        raise runs.RunError(f"--init-from needs a finished run, which {run} is not")
    record = ADDED_LATER | runs.load_config(run)
    differing = [name for name in SHARED_WITH_START if record.get(name) != getattr(config, name)]
    if differing:
        raise runs.RunError(
            f"{run} was trained with another {flag(differing[0])} ({record.get(differing[0])}). "
            f"{runs.how_to_train_further(run)}"
        )
    weights = runs.load_model(run).get_weights()
    if [weight.shape for weight in weights] != [tuple(weight.shape) for weight in model.weights]:
        raise runs.RunError(f"the network in {run} is not that of its {runs.CONFIG}")
    model.set_weights(weights)


def load_backbone_weights(config: TrainConfig, model: keras.Model) -> None:
    """Load the pretrained weights of a config into a mobilenet. Raises TrainingError."""
    try:
        with socket_timeout():
            set_backbone_weights(model, pretrained_weights(config.width, config.weights))
    except ValueError as error:
        raise TrainingError(
            f"{error}; name a file that contains them, or leave --weights out"
        ) from None
