"""Grids of small images in colour: images, kernels, feature maps and attribution maps.

A cell is an image (height, width, 3) in RGB. The functions grey(), signed(), positive() and
overlay() return cells; grid() draws rows of cells.
"""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fmnist.figure_style import default_style

# Blue for negative and red for positive values; white is zero.
DIVERGING = matplotlib.colormaps["RdBu_r"]
SEQUENTIAL = matplotlib.colormaps["viridis"]
HEAT = matplotlib.colormaps["YlOrRd"]
BACKGROUND = 0.88  # grey value of pixels outside the image
TITLE_SIZE = 9  # font size in points
LINE_HEIGHT = 0.17  # of a title, in inches


def grey(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W) in [0, 1], drawn dark on white; NaN is outside the image."""
    cell = np.repeat(1.0 - np.nan_to_num(image.astype(float))[..., None], 3, axis=-1)
    cell[np.isnan(image)] = BACKGROUND, BACKGROUND, 1  # bluish, unlike any pixel of an image
    return cell


def signed(values: np.ndarray, limit: float) -> np.ndarray:
    """Return values (H, W) between -limit and limit as colours."""
    return DIVERGING(0.5 + 0.5 * values / (limit or 1))[..., :3]


def positive(values: np.ndarray, limit: float) -> np.ndarray:
    """Return values (H, W) between 0 and limit as colours."""
    return SEQUENTIAL(values / (limit or 1))[..., :3]


def overlay(
    image: np.ndarray, values: np.ndarray, limit: float, has_sign: bool = False
) -> np.ndarray:
    """Return an image (H, W) in pale grey under values (H, W) in colour, opaque where large.

    Args:
        image: (H, W) in [0, 1].
        values: (H, W).
        limit: values of this size or more have the strongest colour.
        has_sign: whether negative values are blue and positive ones red; otherwise the values are
            not negative, and the colours are yellow to red.
    """
    strength = np.clip(values / (limit or 1), -1, 1)
    colours = DIVERGING(0.5 + 0.5 * strength) if has_sign else HEAT(strength)
    opacity = np.abs(strength)[..., None]
    cell = (1 - opacity) * (1 - 0.4 * image[..., None]) + opacity * colours[..., :3]
    return np.clip(cell, 0, 1)  # rounding errors exceed 1


@default_style()
def grid(
    rows: Sequence[Sequence[np.ndarray]],
    title: str,
    row_labels: Sequence[str] = (),
    titles: Sequence[Sequence[str]] = (),
    colours: Sequence[Sequence[str]] = (),
    cell_size: float = 0.9,
    gaps: Sequence[int] = (),
    colour_bar: tuple[matplotlib.colors.Colormap, tuple[str, str]] | None = None,
) -> Figure:
    """Return a figure with rows of cells.

    All cells are drawn in one axes: an axes per cell would take several times as long.

    Args:
        rows: cells, row by row; the rows may have different lengths.
        title: title of the figure.
        row_labels: text at the left of every row.
        titles: text above every cell of a row; a row without texts may be an empty sequence.
        colours: colours of the titles (default: black).
        cell_size: width and height of a cell in inches.
        gaps: columns before which a gap separates groups of cells.
        colour_bar: colour map, and labels of its two ends.
    """
    columns = max(map(len, rows))
    lines = [
        max((text.count("\n") + 1 for text in texts if text), default=0)
        for texts in (titles or [()] * len(rows))
    ]
    margin = 0.08  # inches between cells
    label_width = 0.075 * max(
        (len(line) for label in row_labels for line in label.split("\n")), default=0
    )
    group_gap = 0.2
    lefts = [
        label_width
        + 0.15
        + column * (cell_size + margin)
        + group_gap * sum(column >= gap for gap in gaps)
        for column in range(columns)
    ]
    width = lefts[-1] + cell_size + 0.15
    tops, y = [], 0.45
    for count in lines:
        y += count * LINE_HEIGHT
        tops.append(y)
        y += cell_size + margin
    height = y + (0.45 if colour_bar else 0.05)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    for index, (row, top) in enumerate(zip(rows, tops, strict=True)):
        for column, cell in enumerate(row):
            left = lefts[column]
            extent = (left, left + cell_size, top + cell_size, top)
            axes.imshow(cell, extent=extent, interpolation="nearest")
            if titles and column < len(titles[index]):
                colour = colours[index][column] if colours else "black"
                axes.text(
                    left + cell_size / 2, top - 0.03, titles[index][column],
                    fontsize=TITLE_SIZE, ha="center", va="bottom", color=colour, linespacing=1.05,
                )  # fmt: skip
        if row_labels:
            axes.text(
                label_width + 0.05, top + cell_size / 2, row_labels[index],
                fontsize=TITLE_SIZE, ha="right", va="center",
            )  # fmt: skip
    axes.axis("off")
    axes.text(width / 2, 0.1, title, fontsize=12, ha="center", va="top")
    if colour_bar:
        colour_map, (low, high) = colour_bar
        bar = (width / 2 - 1, width / 2 + 1, height - 0.15, height - 0.3)
        axes.imshow(colour_map(np.linspace(0, 1, 256))[None], extent=bar, aspect="auto")
        for x, text, side in ((bar[0] - 0.08, low, "right"), (bar[1] + 0.08, high, "left")):
            axes.text(x, height - 0.225, text, fontsize=TITLE_SIZE, ha=side, va="center")
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    return figure
