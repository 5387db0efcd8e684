"""Where two networks look: class activation maps of test images that one of them gets wrong."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import data
from fmnist import image_grid, runs
from fmnist.evaluation import activations, attribution
from fmnist.source import CLASS_NAMES
from plots import CORRECT_COLOUR, WRONG_COLOUR

EXAMPLES = 5  # images that only one of the networks classifies correctly


def draw(
    folder: Path, first: dict[str, Any], other: dict[str, Any], data_dir: str | None
) -> Figure | None:
    """Return the figure of two networks, or None if they agree on which images are correct.

    It shows the first EXAMPLES test images that only the first network classifies correctly, then
    those that only the other one does, with the class activation map of each network for the class
    that it predicts.

    Args:
        folder: folder of the comparison.
        first: row of a network, see summary.summarise(). Its first run is used.
        other: row of another network.
        data_dir: folder with the data, or None.

    Raises:
        UserError: a DataError, or a RunError if a network cannot be inspected.
    """
    (_, _, images, labels), _ = data.read(data_dir)
    test = data.normalise(images, labels)
    correct, other_correct = first["correct"][0], other["correct"][0]
    chosen = np.concatenate(
        [
            np.flatnonzero(only)[:EXAMPLES]
            for only in (correct & ~other_correct, other_correct & ~correct)
        ]
    )
    if not len(chosen):
        return None
    images, labels = test.images[chosen], test.labels[chosen]
    rows = [[image_grid.grey(image[..., 0]) for image in images]]
    row_labels = ["image, true class"]
    titles, colours = [[CLASS_NAMES[label] for label in labels]], [["black"] * len(labels)]
    for row in (first, other):
        run = folder / f"{row['name']}-{row['first_seed']}"
        members = activations.inspected_members(run, runs.load_model(run))
        predicted = row["predicted"][0][chosen]
        maps = attribution.hires_cam(members, images, predicted)
        rows.append(
            [
                image_grid.overlay(image[..., 0], values, values.max())
                for image, values in zip(images, maps, strict=True)
            ]
        )
        row_labels.append(row["label"].replace(", ", ",\n"))
        titles.append([CLASS_NAMES[label] for label in predicted])
        colours.append([CORRECT_COLOUR if right else WRONG_COLOUR for right in predicted == labels])
    return image_grid.grid(
        rows,
        "Where two networks look (HiResCAM for the class that each predicts)",
        row_labels,
        titles,
        colours,
        cell_size=1.15,
    )
