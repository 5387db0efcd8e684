"""A progress bar for work of more than a few seconds."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import rich.progress
from rich.console import Console

from fmnist import cli

FEW = 20  # items that need no progress bar


def track(items: Sequence[Any], description: str) -> Iterable[Any]:
    """Return the items, with a progress bar if there are many and output is a terminal."""
    return rich.progress.track(
        items,
        description,
        console=Console(stderr=True),
        transient=True,
        disable=len(items) < FEW or not cli.is_terminal(sys.stderr),
    )
