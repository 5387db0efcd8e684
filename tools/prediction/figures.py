"""The figure of photographs beside their model inputs and class probabilities."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fmnist.inference.photo import Photo
from plots import BLUE, RED


def photographs(
    photos: Sequence[Photo],
    probabilities: Sequence[np.ndarray],
    titles: Sequence[str],
    names: Sequence[str],
) -> Figure:
    """Return photographs with the outline of the item, the model input and the probabilities.

    Args:
        photos: the photographs (N).
        probabilities: class probabilities (10,) of every photograph; all zero without an item.
        titles: titles (N).
        names: class names.
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
    for (picture, model_input, bars), photo, photo_probabilities, title in zip(
        grid, photos, probabilities, titles, strict=False
    ):
        picture.imshow(photo.picture)
        if photo.mask is not None and not photo.mask.all():
            picture.contour(photo.mask, [0.5], colors=[RED], linewidths=1.5)
        picture.set_title(title, fontsize=9)
        if len(photo.images):
            model_input.imshow(photo.images[-1, ..., 0], cmap="gray", vmin=0, vmax=1)
        model_input.set_title("model input" if len(photo.images) else "no item", fontsize=9)
        for axes in (picture, model_input):
            axes.axis("off")
        confidence = photo_probabilities.max()
        bars.barh(
            names,
            photo_probabilities,
            color=[BLUE if value == confidence else "0.7" for value in photo_probabilities],
        )
        bars.invert_yaxis()
        bars.set(xlim=(0, 1), xlabel="Probability")
        bars.set_title(
            f"{names[photo_probabilities.argmax()]} {confidence:.0%}" if confidence else "",
            fontsize=9,
            fontweight="bold",
        )
        bars.tick_params(labelsize=8)
    return figure
