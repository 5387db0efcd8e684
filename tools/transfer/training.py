"""Train the last layer of the network for whole photographs, on features that stay as they are."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from sklearn.decomposition import PCA

from fmnist import cli
from fmnist.evaluation import metrics
from fmnist.inference.labelled_photos import Labelled
from fmnist.inference.whole_photo import FEATURES, SIDE, FeatureStatistics, resized
from fmnist.progress import track
from fmnist.source import CLASS_NAMES
from fmnist.training import composites, photo_labels

BATCH = 128
LEARNING_RATE, WEIGHT_DECAY = 3e-4, 0.01
DROPOUT = 0.3  # of the features
VIEWS = 4  # random views of every photograph, besides itself and its mirror image
COMPOSITES = 2000  # images of Fashion-MNIST in random colours, pasted on pieces of photographs
FEATURES_BATCH = 32
COMPONENTS = 128  # principal components of the features
# The classes of ImageNet that are most similar to each class of Fashion-MNIST. The last layer
# starts from their mean weights.
SIMILAR = {
    "T-shirt/top": (610,),  # jersey
    "Trouser": (608,),  # jean
    "Pullover": (474, 841),  # cardigan, sweatshirt
    "Dress": (578, 601, 655),  # gown, hoopskirt, miniskirt
    "Coat": (568, 617, 869),  # fur coat, lab coat, trench coat
    "Sandal": (774,),  # sandal
    "Shirt": (834,),  # suit
    "Sneaker": (770,),  # running shoe
    "Bag": (414, 636, 748),  # backpack, mailbag, purse
    "Ankle boot": (514,),  # cowboy boot
}
Extract = Callable[[Sequence[np.ndarray]], np.ndarray]  # see extractor()


def extractor(backbone: keras.Model) -> Extract:
    """Return a function of pictures, (height, width, 3) uint8: their features (N, FEATURES)."""

    def extract(pictures: Sequence[np.ndarray]) -> np.ndarray:
        starts = range(0, len(pictures), FEATURES_BATCH)
        batches = (pictures[start : start + FEATURES_BATCH] for start in starts)
        outputs = [backbone.predict_on_batch(np.stack([*map(resized, b)])) for b in batches]
        return np.concatenate(outputs)

    return extract


class TrainingSet(NamedTuple):
    """What the last layer learns from.

    Attributes:
        features: (N, FEATURES).
        targets: (N, 11), see photo_labels.loss().
        weights: sample weights (N,).
    """

    features: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


def training_set(
    labelled: Sequence[Labelled],
    pictures: Sequence[np.ndarray],
    source: composites.Material,
    extract: Extract,
    rng: np.random.Generator,
) -> TrainingSet:
    """Return the features of photographs, of views of them, and of composites.

    Args:
        labelled: the labels of the pictures.
        pictures: (height, width, 3) uint8.
        source: material of the composites.
        extract: result of extractor().
        rng: random generator.
    """
    parts = [extract(pictures), extract([picture[:, ::-1] for picture in pictures])]
    for _ in track(range(VIEWS), "Computing features"):
        parts.append(extract([random_view(picture, rng) for picture in pictures]))
    targets = photo_labels.targets_of(labelled, pictures)
    weights = [photo_labels.balanced(targets)] * len(parts)
    targets = [photo_labels.with_unknown(targets)] * len(parts)
    made = [composites.composite(source, rng) for _ in range(COMPOSITES)]
    shown = [(picture, label) for picture, mask, label in made if mask.any()]
    parts.append(extract([picture for picture, _ in shown]))
    targets.append(metrics.one_hot(np.array([label for _, label in shown]), photo_labels.CLASSES))
    weights.append(np.ones(len(shown), np.float32))
    # None is an outlier.
    targets = np.pad(np.concatenate(targets), ((0, 0), (0, 1)))
    return TrainingSet(np.concatenate(parts), targets, np.concatenate(weights))


def random_view(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random part of a picture (SIDE, SIDE, 3) uint8, maybe turned and recoloured."""
    no_mask = np.zeros(picture.shape[:2], bool)
    return composites.view(picture, no_mask, rng, SIDE)[0]


def last_layer(arrays: dict[str, np.ndarray]) -> keras.Sequential:
    """Return the last layer, features (N, FEATURES) to class probabilities (N, 10), with dropout.

    Args:
        arrays: result of efficientnet.read_weights().
    """
    layer = layers.Dense(len(CLASS_NAMES), activation="softmax")
    head = keras.Sequential([keras.Input((FEATURES,)), layers.Dropout(DROPOUT), layer])
    kernel, bias = arrays["_fc.weight"], arrays["_fc.bias"]
    similar = [list(SIMILAR[name]) for name in CLASS_NAMES]
    layer.set_weights(
        [
            np.stack([kernel[indices].mean(axis=0) for indices in similar], axis=1),
            np.stack([bias[indices].mean() for indices in similar]),
        ]
    )
    return head


def fit(head: keras.Sequential, examples: TrainingSet, epochs: int) -> None:
    """Train the last layer."""
    steps = epochs * -(-len(examples.features) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    head.compile(
        keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY),
        photo_labels.loss,
        steps_per_execution=16,
    )
    head.fit(
        examples.features,
        examples.targets,
        sample_weight=examples.weights,
        batch_size=BATCH,
        epochs=epochs,
        verbose=cli.verbosity(),
    )


def accuracy(head: keras.Sequential, features: np.ndarray, targets: np.ndarray) -> float:
    """Return how often the most probable class is one that the label stands for.

    Args:
        head: result of last_layer().
        features: (N, FEATURES).
        targets: (N, 10), see photo_labels.targets_of().
    """
    predicted = head.predict_on_batch(features).argmax(axis=1)
    return float(targets[np.arange(len(targets)), predicted].mean())


def feature_statistics(features: np.ndarray, held_out: np.ndarray) -> FeatureStatistics:
    """Return the statistics of the features of photographs.

    Args:
        features: features of the photographs to train on, (N, FEATURES).
        held_out: features of the validation set, the mean for each photograph and its mirror image,
            (M, FEATURES). The limit is their largest error: product pictures, which are not among
            the photographs, have larger errors than most.
    """
    pca = PCA(min(COMPONENTS, len(features)), svd_solver="covariance_eigh").fit(features)
    statistics = FeatureStatistics(pca.mean_, pca.components_, np.array(np.inf))
    statistics = statistics._replace(limit=statistics.reconstruction_error(held_out).max())
    return FeatureStatistics(*(np.asarray(array, np.float32) for array in statistics))
