"""What surrounds model.fit: run directory, saving, resuming, and all ways to end."""

import contextlib
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from fmnist import cli, runs
from fmnist.config import TrainConfig
from fmnist.networks import pretrained_weights, set_backbone_weights
from fmnist.source import socket_timeout
from fmnist.training import checkpoint, interrupts
from fmnist.training.fast_model import SplitBatchModel


class TrainingError(cli.UserError):
    """Training cannot go on."""


class Diverged(TrainingError):
    """Training cannot go on, and would not with the same settings."""


@contextlib.contextmanager
def open_run(
    run: Path | None,
    config: TrainConfig,
    dataset: Any,
    model: keras.Model,
    fast_model: SplitBatchModel,
    random_stream: tf.Variable,
) -> Iterator["EpochSaver"]:
    """Give an EpochSaver on a new run directory, or on an unfinished one, whose state is restored.

    Args:
        run: None for a new one.
        config: every setting.
        dataset: a data.Dataset.
        model: the network that is saved.
        fast_model: the compiled accelerated model that is fitted.
        random_stream: two integers, seed and epoch, of all that is random in the batches.

    Raises:
        RunError: where the run cannot be made, is of other data, or is being trained by another
            process.
        TrainingError: where training cannot go on; the message says what is kept, as that of a
            KeyboardInterrupt does.
    """
    fast_model.optimizer.build(fast_model.trainable_variables)
    if config.weights and not (run and checkpoint.load_state(run)[1]):
        load_initial_weights(config, model)
    if run is None:
        record = config.to_record() | {"fingerprint": dataset.fingerprint}
        run = runs.create(config.runs_dir, config.name, record)
    else:
        runs.check_fingerprint(run, dataset)
    with runs.lock(run):
        saver = EpochSaver(run, config, model, fast_model, random_stream)
        done = f"; {len(saver.history)} epochs were done before" if saver.history else ""
        print(f"Run: {run}; {config.model} with {model.count_params():,} parameters{done}")
        try:
            with (
                interrupts.last_words(
                    f"train_cnn.py: killed, or crashed; if nobody did it, memory ran out: other "
                    f"programs or --batch-size {config.batch_size} take too much. "
                    f"{how_to_resume(run)}"
                ),
                interrupts.deferred() as received,
            ):
                saver.interrupts = received
                yield saver
        except KeyboardInterrupt as interrupt:
            raise type(interrupt)(f"Interrupted. {saver.what_is_kept()}") from None
        # oneDNN raises AbortedError where memory runs out.
        except (MemoryError, tf.errors.ResourceExhaustedError, tf.errors.AbortedError):
            raise TrainingError(
                f"out of memory in epoch {len(saver.history) + 1}; try less than --batch-size "
                f"{config.batch_size}. {saver.what_is_kept()}"
            ) from None
        except OSError as error:
            raise TrainingError(f"{cli.one_line(error)}. {saver.what_is_kept()}") from None
    if saver.interrupts:
        raise type(saver.interrupts[0])(
            f"Interrupted after the last batch: {run} is finished; next: "
            f"python evaluate_model.py {shlex.quote(str(run))}"
        )


class EpochSaver(keras.callbacks.Callback):
    """Saves state, history and the best weights after every epoch, and handles interrupts.

    Attributes:
        run: the run directory.
        history: a row an epoch, with the keys of runs.HISTORY; those that were done before come
            first.
        interrupts: see interrupts.deferred().
    """

    def __init__(
        self,
        run: Path,
        config: TrainConfig,
        model: keras.Model,
        fast_model: SplitBatchModel,
        random_stream: tf.Variable,
    ) -> None:
        """Restore the run if it has a state. See open_run(). Raises RunError."""
        super().__init__()
        self.run, self.config = run, config
        self.saved_model, self.random_stream = model, random_stream
        self.optimizer, self.interrupts, self.started = fast_model.optimizer, [], None
        pruning = [fast_model.pruning.losses] if fast_model.pruning else []
        self.state = [*model.weights, *self.optimizer.variables, *pruning]
        self.history = checkpoint.restore(run, config, model, self.state)

    def is_done(self) -> bool:
        """Return whether the history ends as a training of this config does."""
        best = runs.chosen_epoch(self.config.patience, self.history)
        stopped = (
            best
            and self.config.patience
            and len(self.history) - best["epoch"] >= self.config.patience
        )
        return (
            bool(stopped) or runs.diverged(self.history) or len(self.history) >= self.config.epochs
        )

    def callbacks(self, *counting: keras.callbacks.Callback) -> list[keras.callbacks.Callback]:
        """Return this and the other callbacks in their order.

        Args:
            counting: callbacks that count epochs, as EarlyStopping does. They are told what they
                saw before.
        """
        replay = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: self.replay(counting))
        callbacks = [self, keras.callbacks.TerminateOnNaN(), *counting, replay]
        if self.optimizer.use_ema:
            # First, so that the weights that were validated are still there when they are saved.
            averaging = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
            averaging._ema_weights_in_model = bool(self.history)  # as they were saved
            callbacks.insert(0, averaging)
        return callbacks

    def replay(self, counting: tuple[keras.callbacks.Callback, ...]) -> None:
        """Give callbacks the epochs that were done before."""
        for row in self.history:
            if self.config.schedule == "plateau":
                self.optimizer.learning_rate = row["learning_rate"]
            for callback in counting:
                callback.on_epoch_end(row["epoch"] - 1, dict(row))

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start the clock and the random stream of the epoch."""
        self.note_seconds()
        self.started = time.perf_counter()
        self.random_stream.assign([self.config.seed, epoch])

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """End the training where it was interrupted."""
        if self.interrupts:
            raise self.interrupts[0]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Save the state first, then the history, with the model if it is the best."""
        # Until it is known how long the writing takes.
        row = {
            "epoch": epoch + 1,
            **logs,
            "learning_rate": float(self.optimizer.learning_rate),
            "seconds": time.perf_counter() - self.started,
        }
        history = [*self.history, row]
        checkpoint.save_state(self.run, [variable.numpy() for variable in self.state], history)
        is_best = row is runs.chosen_epoch(self.config.patience, history)
        runs.save_epoch(self.run, history, self.saved_model if is_best else None)
        self.history.append(row)
        if runs.diverged(self.history):
            self.model.stop_training = True

    def on_train_end(self, logs: dict | None = None) -> None:
        """Save the seconds of the last epoch."""
        self.note_seconds()
        runs.save_epoch(self.run, self.history)

    def note_seconds(self) -> None:
        """Give the last epoch of the history the time until now, the writing after it included."""
        if self.started is not None:
            self.history[-1]["seconds"] = time.perf_counter() - self.started

    def save_final(self) -> None:
        """Leave the run finished, with the best weights in it. Raises Diverged."""
        config = self.config
        if runs.diverged(self.history):
            causes = f"--learning-rate {config.learning_rate:g}" + (
                f" or --l2 {config.l2:g}" if config.l2 else ""
            )
            raise Diverged(
                f"the loss of epoch {len(self.history)} is not a number, most likely because "
                f"{causes} is too high. {self.what_is_kept()}"
            )
        runs.finish(self.run)
        best = runs.chosen_epoch(config.patience, self.history)
        print(
            f"\nKept epoch {best['epoch']} of {len(self.history)}: validation accuracy "
            f"{best['val_accuracy']:.2%}, loss {best['val_loss']:.4f}"
        )
        print(f"Saved {self.run / runs.MODEL}, {runs.HISTORY_FILE} and {runs.CONFIG}")

    def what_is_kept(self) -> str:
        """Return the sentences about a run that ended early. A run without weights is removed."""
        best = runs.chosen_epoch(self.config.patience, self.history)
        if best is None:
            runs.discard(self.run)
            return "No epoch was finished, nothing was saved."
        resume = "" if runs.diverged(self.history) else f". {how_to_resume(self.run)}"
        return (
            f"The {'best' if self.config.patience else 'last'} weights, of epoch {best['epoch']} "
            f"with a validation loss of {best['val_loss']:.4f}, are in {self.run / runs.MODEL}; "
            f"next: python evaluate_model.py {shlex.quote(str(self.run))}{resume}"
        )


def how_to_resume(run: Path) -> str:
    """Return the sentence with the command that resumes a run."""
    return f"To resume: python train_cnn.py --resume {shlex.quote(str(run))}"


def load_initial_weights(config: TrainConfig, model: keras.Model) -> None:
    """Give a mobilenet the weights that the config names. Raises TrainingError."""
    try:
        with socket_timeout():
            set_backbone_weights(model, pretrained_weights(config.width, config.weights))
    except ValueError as error:
        raise TrainingError(
            f"{error}; name a file that holds them, or leave --weights out"
        ) from None
