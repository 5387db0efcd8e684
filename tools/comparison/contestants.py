"""The contestants of a comparison: networks, recipes, ablations and classical classifiers.

A contestant is one entry of the comparison: settings that are trained with several random seeds.
"""

from pathlib import Path
from typing import Any

from fmnist.config import MODEL_NAMES
from fmnist.recipes import ADAM, RECIPES

# Training of networks and ablations: short, and equal for all, so that only the network differs.
SCHEDULE = {**ADAM, "epochs": 5, "schedule": "one-cycle", "patience": 0}
BASELINE_NAMES = (
    "dummy",
    "logistic_regression",
    "linear_svm",
    "knn",
    "random_forest",
    "gradient_boosting",
    "hog_svm",
)
# The settings of TrainConfig by name of the contestant, in groups; None for a classical classifier
# of baselines.BASELINES.
GROUPS: dict[str, dict[str, dict[str, Any] | None]] = {
    "networks": {name: {**SCHEDULE, "model": name} for name in MODEL_NAMES},
    "recipes": {name: {"recipe": name} for name in RECIPES},
    "ablations": {
        "dropout_cnn-without-dropout": {**SCHEDULE, "model": "dropout_cnn", "dropout": 0.0},
        "batchnorm_cnn-without-batch-norm": {
            **SCHEDULE,
            "model": "batchnorm_cnn",
            "batch_norm": False,
        },
        "lenet_l2-without-l2": {**SCHEDULE, "model": "lenet_l2", "l2": 0.0},
        "gap_cnn-of-1-convolution": {**SCHEDULE, "model": "gap_cnn", "convolutions": 1},
        "gap_cnn-of-2-convolutions": {**SCHEDULE, "model": "gap_cnn", "convolutions": 2},
        "gap_cnn-of-4-convolutions": {**SCHEDULE, "model": "gap_cnn", "convolutions": 4},
    },
    "baselines": dict.fromkeys(BASELINE_NAMES),
}
CONTESTANTS = {name: settings for group in GROUPS.values() for name, settings in group.items()}
# The component that an ablation removes from its network.
REMOVED_COMPONENTS = {
    "dropout_cnn-without-dropout": "dropout",
    "batchnorm_cnn-without-batch-norm": "batch normalisation",
    "lenet_l2-without-l2": "L2 regularisation",
}
# gap_cnn with 1, 2, 3 and 4 convolutions.
DEPTHS = (
    "gap_cnn-of-1-convolution",
    "gap_cnn-of-2-convolutions",
    "gap_cnn",
    "gap_cnn-of-4-convolutions",
)


def expand(names: list[str]) -> list[str]:
    """Return the contestants that are named directly or by their group, without duplicates.

    An empty list stands for all contestants.
    """
    found = []
    for name in names or GROUPS:
        found += GROUPS.get(name, [name])
    return list(dict.fromkeys(found))


def group_of(name: str) -> str:
    """Return the group of a contestant."""
    return next(group for group, names in GROUPS.items() if name in names)


def label_of(name: str, settings: dict[str, Any]) -> str:
    """Return the label of a contestant in tables and figures.

    The label of a network or an ablation ends with the number of epochs, because SCHEDULE is much
    shorter than the training of a recipe.

    Args:
        name: name of the contestant.
        settings: settings of its training, as in result.json.
    """
    if group_of(name) not in ("networks", "ablations"):
        return name
    network = settings["model"]
    if name in REMOVED_COMPONENTS:
        network += f" without {REMOVED_COMPONENTS[name]}"
    elif settings.get("convolutions"):
        network += f" with {count(settings['convolutions'], 'convolution')}"
    label = f"{network}, {count(settings['epochs'], 'epoch')}"
    return f"{label}, {initial_weights(settings)}" if name == "mobilenet" else label


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural if necessary."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def initial_weights(settings: dict[str, Any]) -> str:
    """Return a description of the initial weights of mobilenet."""
    weights = settings.get("weights")
    if weights is None:
        return "randomly initialised"
    return "ImageNet weights" if weights == "imagenet" else f"weights of {Path(weights).name}"
