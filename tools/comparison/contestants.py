"""What can be compared, by name: networks, recipes, ablations and classical classifiers."""

from typing import Any

from fmnist.config import MODEL_NAMES
from fmnist.recipes import RECIPES

# The same for every network, so that it alone differs.
SCHEDULE = {"epochs": 5, "schedule": "one-cycle", "patience": 0}
BASELINE_NAMES = (
    "dummy",
    "logistic_regression",
    "linear_svm",
    "knn",
    "random_forest",
    "gradient_boosting",
    "hog_svm",
)
# Settings of TrainConfig by the name of the contestant; None for a classical classifier, of
# baselines.BASELINES.
GROUPS: dict[str, dict[str, dict[str, Any] | None]] = {
    "networks": {name: {"model": name, **SCHEDULE} for name in MODEL_NAMES},
    "recipes": {name: {"recipe": name} for name in RECIPES},
    "ablations": {
        "dropout_cnn-without-dropout": {"model": "dropout_cnn", "dropout": 0.0, **SCHEDULE},
        "batchnorm_cnn-without-batch-norm": {
            "model": "batchnorm_cnn",
            "batch_norm": False,
            **SCHEDULE,
        },
        "lenet_l2-without-l2": {"model": "lenet_l2", "l2": 0.0, **SCHEDULE},
        "gap_cnn-of-1-convolution": {"model": "gap_cnn", "convolutions": 1, **SCHEDULE},
        "gap_cnn-of-2-convolutions": {"model": "gap_cnn", "convolutions": 2, **SCHEDULE},
        "gap_cnn-of-4-convolutions": {"model": "gap_cnn", "convolutions": 4, **SCHEDULE},
    },
    "baselines": dict.fromkeys(BASELINE_NAMES),
}
CONTESTANTS = {name: settings for group in GROUPS.values() for name, settings in group.items()}
DEPTHS = (
    "gap_cnn-of-1-convolution",
    "gap_cnn-of-2-convolutions",
    "gap_cnn",
    "gap_cnn-of-4-convolutions",
)


def expand(names: list[str]) -> list[str]:
    """Return the contestants of names of groups and contestants, each once.

    Without a name, that is all of them.
    """
    found = []
    for name in names or GROUPS:
        found += GROUPS.get(name, [name])
    return list(dict.fromkeys(found))
