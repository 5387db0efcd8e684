"""How networks learn from the labels of photographs: targets, loss, weights, validation set.

The labels have three difficulties. "shoe" stands for three classes; of some classes there are no
photographs; and others are rare.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fmnist.inference.labelled_photos import LabelError, Labelled
from fmnist.source import CLASS_NAMES
from fmnist.training import shoes

CLASSES = len(CLASS_NAMES)
HELD_OUT = 0.2  # fraction of the photographs that are the validation set
BALANCE = 0.75  # see balanced()
SMOOTHING = 0.05  # label smoothing


def held_out(labelled: Sequence[Labelled], seed: int = 0) -> np.ndarray:
    """Return whether each photograph is in the validation set, (N,) bool.

    All photographs of a sender are on the same side. Senders are chosen at random; a sender whose
    photographs would make the validation set larger than HELD_OUT is passed over. The seed is not
    that of the training: networks that are averaged have the same validation set.

    Raises:
        LabelError: there are too few photographs or senders.
    """
    senders = np.array([picture.sender for picture in labelled])
    names, counts = np.unique(senders, return_counts=True)
    wanted, chosen, total = HELD_OUT * len(senders), [], 0
    for index in np.random.default_rng(seed).permutation(len(names)):
        if total + counts[index] <= wanted:
            chosen.append(names[index])
            total += counts[index]
    if not chosen:
        raise LabelError(
            f"{len(senders)} photographs of {len(names)} senders are too few to hold out a fifth "
            "for validation"
        )
    return np.isin(senders, chosen)


def split(
    labelled: Sequence[Labelled], pictures: Sequence[np.ndarray]
) -> tuple[tuple[list, list], tuple[list, list]]:
    """Return the photographs to train on and the validation set, each as labels and pictures.

    Args:
        labelled: labels of the pictures (N).
        pictures: (height, width, 3) uint8 (N).

    Raises:
        LabelError: see held_out().
    """
    is_validation = held_out(labelled)
    train, validation = (
        ([labelled[index] for index in indices], [pictures[index] for index in indices])
        for indices in (np.flatnonzero(~is_validation), np.flatnonzero(is_validation))
    )
    return train, validation


def targets_of(labelled: Sequence[Labelled], pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Return 1 for the classes that a label stands for, else 0, (N, 10) float32.

    Args:
        labelled: labels (N).
        pictures: the photographs (height, width, 3) uint8, by which the kind of some shoes is
            known.
    """
    known = [shoes.with_kind(*pair) for pair in zip(labelled, pictures, strict=True)]
    targets = np.zeros((len(known), CLASSES), np.float32)
    for row, label in zip(targets, known, strict=True):
        row[list(label.classes)] = 1
    return targets


def with_unknown(targets: np.ndarray) -> np.ndarray:
    """Return targets (N, 10) with -1 for the classes of which there are no photographs.

    The photographs do not show how such a class differs from the others. If they were examples
    against it, the network would hardly predict it any more. Photographs with a single label have
    only examples against other classes, and keep their targets.
    """
    if len(np.unique(targets, axis=0)) == 1:
        return targets
    return np.where(targets.any(axis=0), targets, -1).astype(np.float32)


def balanced(targets: np.ndarray) -> np.ndarray:
    """Return sample weights (N,) with mean 1, so that rare labels count more.

    The weight is proportional to the number of photographs with the label to the power of -BALANCE.
    """
    _, label, counts = np.unique(targets, axis=0, return_inverse=True, return_counts=True)
    weights = counts[label.ravel()] ** -BALANCE
    return (weights / weights.mean()).astype(np.float32)


def loss(targets: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Return the loss of every image (N,).

    It is the cross-entropy of the probability of all classes that the label stands for, normalised
    over the classes of which there are examples. For an outlier, it is the cross-entropy of the
    uniform distribution.

    Args:
        targets: (N, 11); 1 for the classes that the label stands for, -1 for those without examples
            (see with_unknown()), else 0; 1 in the last column for an outlier.
        probabilities: (N, 10).
    """
    classes, is_outlier = targets[:, :CLASSES], targets[:, CLASSES]
    known = tf.cast(classes >= 0, tf.float32)
    all_known = tf.math.log(tf.reduce_sum(known * probabilities, axis=1) + 1e-7)
    of_label = tf.reduce_sum(tf.maximum(classes, 0) * probabilities, axis=1)
    label = all_known - tf.math.log(of_label + 1e-7)
    mean = tf.reduce_sum(known * tf.math.log(probabilities + 1e-7), axis=1)
    uniform = all_known - mean / tf.reduce_sum(known, axis=1)
    smoothing = tf.where(is_outlier > 0, 1.0, SMOOTHING)
    return (1 - smoothing) * label + smoothing * uniform
