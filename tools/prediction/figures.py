"""The figure of photographs, beside what was cut out of them and the class probabilities."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fmnist.inference.photo import Photo
from plots import BLUE, RED


def photographs(
    photos: Sequence[Photo],
    probabilities: Sequence[np.ndarray],
    titles: Sequence[str],
    names: Sequence[str],
) -> Figure:
    """Return photographs with the object framed, beside its image and its probabilities.

    photos: with picture (height, width, 3), box (left, top, right, bottom) and image (28, 28, 1).
    """
    columns = min(2, len(photos))
    rows = -(-len(photos) // columns)
    figure = Figure(figsize=(7.5 * columns, 2.6 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    grid = figure.subplots(
        rows, 3 * columns, squeeze=False, width_ratios=[1, 1, 1.3] * columns
    ).reshape(-1, 3)
    for axes in grid[len(photos) :].flat:
        axes.axis("off")
    for (picture, seen, bars), photo, shares, title in zip(
        grid, photos, probabilities, titles, strict=False
    ):
        picture.imshow(photo.picture)
        left, top, right, bottom = photo.box
        picture.add_patch(
            Rectangle(
                (left - 0.5, top - 0.5),
                right - left,
                bottom - top,
                fill=False,
                color=RED,
                linewidth=1.5,
            )
        )
        picture.set_title(title, fontsize=9)
        seen.imshow(photo.image[..., 0], cmap="gray", vmin=0, vmax=1)
        seen.set_title("what the network sees", fontsize=9)
        for axes in (picture, seen):
            axes.axis("off")
        bars.barh(
            names, shares, color=[BLUE if share == shares.max() else "0.7" for share in shares]
        )
        bars.invert_yaxis()
        bars.set(xlim=(0, 1), xlabel="Probability")
        bars.set_title(
            f"{names[shares.argmax()]} {shares.max():.0%}", fontsize=9, fontweight="bold"
        )
        bars.tick_params(labelsize=8)
    return figure
