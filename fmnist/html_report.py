"""Self-contained HTML pages, which contain their figures."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fmnist.figure_style import default_style

REPORT = "report.html"
DPI = 110
PNG_OPTIONS = {"compress_level": 3}  # a third faster than the default, for files 4 % larger

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem 1rem 2rem max(1rem, 50vw - 30rem); }
h1, h2, p, figure { max-width: 60rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
td, th { border-bottom: 1px solid #ccc; padding: .2rem .6rem; text-align: right; }
td:first-child, th:first-child { text-align: left; padding-left: 0; }
td { white-space: nowrap; }
figure { margin: 2rem 0; } img { max-width: 100%; } figcaption { color: #555; }
"""


def write(
    folder: Path,
    title: str,
    before: Sequence[str],
    figures: dict[str, Figure],
    captions: dict[str, str],
    after: Sequence[str] = (),
    bbox_inches: str | None = None,
    file_name: str = REPORT,
) -> None:
    """Write figures/NAME.png and an HTML page that contains them to a folder.

    Args:
        folder: existing folder.
        title: title of the page.
        before: HTML elements before the figures, made by the functions below.
        figures: figures by name, in their order on the page.
        captions: captions by the name of the figure.
        after: HTML elements after the figures.
        bbox_inches: argument of Figure.savefig; "tight" for figures without a layout engine.
        file_name: name of the page.
    """
    elements = save_figures(folder, figures, captions, bbox_inches)
    save_page(folder / file_name, title, *before, *elements, *after)


@default_style()
def save_figures(
    folder: Path,
    figures: dict[str, Figure],
    captions: dict[str, str],
    bbox_inches: str | None = None,
) -> list[str]:
    """Write figures/NAME.png to a folder and return the HTML elements of the figures.

    For the arguments, see write(). The folder `figures` may exist.
    """
    (folder / "figures").mkdir(exist_ok=True)
    elements = []
    for name, figure in figures.items():
        path = folder / "figures" / f"{name}.png"
        figure.savefig(path, dpi=DPI, bbox_inches=bbox_inches, pil_kwargs=PNG_OPTIONS)
        elements.append(figure_element(path, captions[name]))
    return elements


def save_page(path: Path, title: str, *parts: str) -> None:
    """Write a page that consists of HTML elements, made by the functions below."""
    path.write_text(page(title, *parts), encoding="utf-8", errors="xmlcharrefreplace")


def page(title: str, *parts: str) -> str:
    """Return a page that consists of HTML elements, made by the functions below."""
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title>
<style>{STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
{body}
</body></html>
"""


def heading(text: str) -> str:
    """Return a second-level heading."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table with a header row.

    Args:
        head: column names.
        rows: rows of cells, which are converted to text.
    """
    cells = [f"<th>{html.escape(text)}</th>" for text in head]
    lines = ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
    return "<table><tr>" + "</tr>\n<tr>".join(["".join(cells), *lines]) + "</tr></table>"


def figure_element(path: Path, caption: str) -> str:
    """Return a figure with its caption; the content of the PNG file becomes part of the page."""
    return (
        f'<figure><img alt="{html.escape(path.stem)}" src="data:image/png;base64,'
        f'{base64.b64encode(path.read_bytes()).decode()}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
