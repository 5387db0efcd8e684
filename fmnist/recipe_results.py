"""The measured accuracy and training time of the recipes, from docs/leaderboard.json."""

import json
import statistics
from pathlib import Path
from typing import Any

from fmnist import cli
from fmnist.recipes import RECIPES

LEADERBOARD = Path(__file__).parent.parent / "docs/leaderboard.json"


def other_recipes(recipe: str | None) -> list[str]:
    """Return a list of one line: test accuracy and training time of all recipes except one.

    The accuracy is without test-time augmentation. The list is empty if the file is missing, as in
    an installation without docs/, or corrupt, because training has succeeded nevertheless.
    """
    try:
        rows = json.loads(LEADERBOARD.read_text(encoding="utf-8"))
        texts = [
            f"--recipe {name} {mean(rows[name], 'accuracy_without_flips'):.1%} in "
            f"{cli.duration(mean(rows[name], 'seconds'))}"
            for name in RECIPES
            if name in rows and name != recipe
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []
    if not texts:
        return []
    return [f"Other recipes (test accuracy, training time on two cores): {', '.join(texts)}"]


def mean(entries: dict[str, dict[str, Any]], key: str) -> float:
    """Return the mean of a value over the seeds."""
    return statistics.mean(entry[key] for entry in entries.values())
