import importlib.util
import io
import os
import subprocess
import sys

import matplotlib
import pytest
from matplotlib.figure import Figure

from fmnist.figure_style import default_style
from tests import ROOT

# Valid settings that change a figure or cannot be drawn.
OTHER_SETTINGS = {
    "text.usetex": True,
    "font.size": 40,
    "axes.grid": True,
    "axes.facecolor": "black",
    "savefig.transparent": True,
    "savefig.bbox": "tight",
    "figure.dpi": 20,
}


@default_style()
def drawn(text):
    figure, buffer = Figure(), io.BytesIO()
    figure.subplots().set(title=text, xlabel=text)
    figure.savefig(buffer)
    return buffer.getvalue()


def test_figures_do_not_depend_on_the_settings_of_the_user():
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        expected = drawn("text")
        matplotlib.rcParams.update(OTHER_SETTINGS)
        assert drawn("text") == expected
        assert matplotlib.rcParams["font.size"] == 40  # the settings of the user are kept


@pytest.mark.parametrize("text", ["price_$5_$10", "$\\frac$", "$\\unknown$"])
def test_text_is_not_interpreted_as_markup(text):
    assert drawn(text) != drawn("")
    # As markup, it is invalid.
    with matplotlib.rc_context({"text.usetex": False}), pytest.raises(ValueError, match="Parse"):
        Figure().text(0, 0, text, parse_math=True).figure.savefig(io.BytesIO())


INLINE = "module://matplotlib_inline.backend_inline"  # the backend of notebooks


@pytest.mark.parametrize(
    "backend, remaining",
    [
        (INLINE, INLINE if importlib.util.find_spec("matplotlib_inline") else None),
        ("unknown", None),
        ("module://not_installed", "module://not_installed"),
        ("tkagg", "tkagg"),
    ],
)
def test_a_backend_that_is_not_installed_is_ignored(backend, remaining):
    code = (
        "import os, sys\nfrom fmnist import runtime\nruntime.import_matplotlib()\n"
        "from tests.fmnist.test_figure_style import drawn\nassert drawn('text')\n"
        "print(os.environ.get('MPLBACKEND'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "MPLBACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{remaining}\n", done.stderr
