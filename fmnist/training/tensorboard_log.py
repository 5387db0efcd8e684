"""Logs for TensorBoard: curves, weight histograms and confusion matrices of a run.

The logs are in the folder tensorboard/ of the run directory. As in Keras, training and validation
write to separate subfolders, which TensorBoard shows as two curves in one chart. Every resume adds
event files to the same subfolders.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fmnist import networks, runs
from fmnist.evaluation import metrics
from fmnist.figure_style import default_style
from fmnist.source import CLASS_NAMES

TRAIN, VALIDATION = "train", "validation"  # the subfolders


def check_installed() -> None:
    """Raise ModuleNotFoundError if the package tensorboard is missing, which tf.summary needs."""
    import tensorboard  # noqa: F401


class TensorBoardLog:
    """The logs of a run."""

    def __init__(self, run: Path, model: keras.Model, validation: Any) -> None:
        """Create the event files.

        Args:
            run: run directory.
            model: model to save.
            validation: validation set, a data.Part.

        Raises:
            OSError: a file cannot be created.
        """
        self.folder, self.model, self.validation = run / runs.TENSORBOARD, model, validation
        with self.os_errors():
            self.writers = {
                name: tf.summary.create_file_writer(str(self.folder / name))
                for name in (TRAIN, VALIDATION)
            }

    def write(self, row: runs.Row) -> None:
        """Write an epoch and wait until it is on the disk.

        Args:
            row: row of the history. The model must contain the weights that were validated.

        Raises:
            OSError: a file cannot be written.
        """
        probabilities = networks.predict(self.model, self.validation.images)
        matrix = confusion_image(metrics.confusion(self.validation.labels, probabilities))
        train, validation = self.writers[TRAIN], self.writers[VALIDATION]
        with self.os_errors():
            with train.as_default(step=row["epoch"]):
                tf.summary.scalar("loss", row["loss"])
                tf.summary.scalar("accuracy", row["accuracy"])
                tf.summary.scalar("learning_rate", row["learning_rate"])
                for tag, weight in tagged_weights(self.model).items():
                    tf.summary.histogram(tag, weight)
            with validation.as_default(step=row["epoch"]):
                tf.summary.scalar("loss", row["val_loss"])
                tf.summary.scalar("accuracy", row["val_accuracy"])
                tf.summary.image("confusion_matrix", matrix[np.newaxis])
            train.flush()
            validation.flush()

    def close(self) -> None:
        """Close the event files."""
        for writer in self.writers.values():
            writer.close()

    @contextlib.contextmanager
    def os_errors(self) -> Iterator[None]:
        """Raise OSError instead of the errors of TensorFlow, one of which means out of memory."""
        try:
            yield
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0].rpartition("}} ")[2]
            raise OSError(f"{self.folder} cannot be written ({reason})") from None


@contextlib.contextmanager
def open_log(run: Path, model: keras.Model, validation: Any) -> Iterator[TensorBoardLog]:
    """Yield the logs of a run, and close them. For arguments and errors, see TensorBoardLog."""
    log = TensorBoardLog(run, model, validation)
    try:
        yield log
    finally:
        log.close()


def tagged_weights(model: keras.Model) -> dict[str, keras.Variable]:
    """Return the weights of a model by tag, for example "02_Conv2D/kernel".

    The tag contains the position of the layer, because Keras numbers layers across all models of a
    process. In an ensemble, it starts with the index of the network.
    """
    members = networks.members_of(model)
    weights = {}
    for index, member in enumerate(members):
        prefix = f"network_{index}/" if len(members) > 1 else ""
        for position, layer in enumerate(networks.layers_of(member), 1):
            for weight in layer.weights:
                tag = f"{prefix}{position:02}_{type(layer).__name__}/{weight.name}"
                weights[tag] = weight
    return weights


@default_style()
def confusion_image(counts: np.ndarray, names: Sequence[str] = CLASS_NAMES) -> np.ndarray:
    """Draw a confusion matrix, coloured by the percentage of the true class.

    Args:
        counts: (classes, classes), true classes in rows, predicted classes in columns.
        names: class names.

    Returns:
        An RGB image (height, width, 3), uint8.
    """
    percentages = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(percentages, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.argwhere(counts):
        percentage = percentages[row, column]
        axes.text(
            column, row, f"{percentage:.0f}", ha="center", va="center", fontsize=8,
            color="white" if percentage > 50 else "black",
        )  # fmt: skip
    positions = range(len(names))
    axes.set_xticks(positions, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(positions, names)
    axes.set(
        xlabel="Predicted class",
        ylabel="True class",
        title="Percentage of the images of the true class",
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
