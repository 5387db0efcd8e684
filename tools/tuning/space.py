"""The search space: settings of TrainConfig with their values or the bounds of their range."""

from typing import Any

from fmnist.config import MODEL_OPTIONS, NETWORK_SETTINGS

SPACE: dict[str, list | tuple[float, float]] = {
    "learning_rate": (3e-4, 3e-2),
    "l2": (1e-6, 1e-3),
    "dropout": (0.0, 0.6),
    "label_smoothing": (0.0, 0.15),
    "batch_size": [64, 128, 256],
    "width": [0.5, 1.0, 1.5, 2.0],
    "schedule": ["constant", "cosine", "one-cycle"],
    "augment": ["none", "flip", "flip+shift"],
}
LOGARITHMIC = ("learning_rate", "l2")
DIGITS = 3  # significant digits of a sampled number, for a readable command


def space_of(model: str) -> dict[str, list | tuple[float, float]]:
    """Return the part of SPACE that a network accepts."""
    return {
        name: values
        for name, values in SPACE.items()
        if name not in NETWORK_SETTINGS or name in MODEL_OPTIONS[model]
    }


def settings_of(params: dict[str, Any], space: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of TrainConfig that the parameters of a trial define."""
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in params.items()
        if name in space
    }
