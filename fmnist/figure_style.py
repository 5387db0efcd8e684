"""Figures that do not depend on the Matplotlib settings of the user."""

import contextlib
from collections.abc import Iterator

import matplotlib


@contextlib.contextmanager
def default_style() -> Iterator[None]:
    """Create and save figures with the default settings of Matplotlib within the context.

    Text is never interpreted as markup, because labels and file names may contain "$". Creating a
    figure and saving it both need the context: Matplotlib creates tick labels when it saves. Also
    usable as a decorator.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False
        yield
