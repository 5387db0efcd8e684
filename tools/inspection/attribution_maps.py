"""Where a network looks: attribution maps of correct predictions and mistakes."""

import numpy as np
from matplotlib.figure import Figure

from fmnist import html_report, image_grid
from fmnist.evaluation import attribution
from fmnist.source import CLASS_NAMES
from plots import CORRECT_COLOUR, WRONG_COLOUR
from tools.inspection.inspected import MISTAKES, Inspected, Part

LIMIT_QUANTILE = 0.99  # of the values of a map; higher ones have the same colour
EMPTY_SAMPLE = 500  # test images
CHECK_HEAD = ("method", "random kernels", "similarity")


def class_activation(inspected: Inspected) -> Part:
    """Show attribution maps of one correct prediction per class and of confident mistakes."""
    test, predicted = inspected.dataset.test, inspected.predicted
    correct = [
        np.flatnonzero((test.labels == label) & (predicted == label))[:1]
        for label in range(len(CLASS_NAMES))
    ]
    shown, worst = np.concatenate(correct), inspected.mistakes[:MISTAKES]
    empty = empty_maps(inspected)
    checked = shown if len(shown) else worst
    check = attribution.randomisation_check(
        inspected.run, inspected.model, test.images[checked], predicted[checked]
    )
    rows = [
        (method, kernels, f"{value:.2f}")
        for method, similarities in check.items()
        for kernels, value in similarities.items()
    ]
    part = Part(
        "Class activation",
        [
            html_report.paragraph(
                "Three methods show what the output for a class depends on. Grad-CAM and HiResCAM "
                "mark the region whose features raise it (yellow to red), as finely as the feature "
                "maps allow. Integrated gradients divide the difference from a black image among "
                "the pixels: red pixels raise the output, blue pixels lower it. Grad-CAM uses the "
                "mean gradient of each feature map, which fails for networks that weight every "
                f"position differently; its map is empty for {empty:.0%} of the first "
                f"{EMPTY_SAMPLE} test images. "
                "HiResCAM uses the gradient of every position; it is exact directly before a "
                "linear classifier, and an approximation elsewhere."
            ),
            html_report.paragraph(
                "A sanity check: a map that explains the network must change when the weights "
                "become random. The table shows the rank correlation, on the pixels of the item, "
                "between the maps of the trained network and those of a copy with random kernels: "
                f"1 means equal maps, 0 unrelated ones (mean of {len(checked)} images). If only "
                "the classifier is random, what remains is the influence of the features, "
                "whatever the class. Integrated gradients multiply by the pixel value, which stays "
                "the same; therefore some similarity always remains."
            ),
            html_report.table(CHECK_HEAD, rows),
        ],
        tables={"randomisation_check": (CHECK_HEAD, rows)},
        results={"randomisation_check": check, "empty_grad_cam": empty},
    )
    if len(shown):
        part.figures["attribution_correct"] = (
            attribution_figure(inspected, shown, "Correct predictions: what supports the class"),
            "The first correct prediction of each class. Every map has its own scale.",
        )
    if len(worst):
        part.figures["attribution_mistakes"] = (
            attribution_figure(
                inspected,
                worst,
                "Mistakes: what supports the predicted and the true class",
            ),
            f"The {len(worst)} most confident mistakes. The maps of the predicted and the true "
            "class of an image share one scale.",
        )
    return part


def empty_maps(inspected: Inspected) -> float:
    """Return the fraction of EMPTY_SAMPLE test images whose Grad-CAM map is zero everywhere."""
    images = inspected.dataset.test.images[:EMPTY_SAMPLE]
    maps = attribution.grad_cam(inspected.members, images, inspected.predicted[:EMPTY_SAMPLE])
    return float(np.mean(maps.max(axis=(1, 2)) == 0))


def attribution_figure(inspected: Inspected, indices: np.ndarray, title: str) -> Figure:
    """Return the figure of test images and their maps, a column per image.

    Mistakes have a row for the predicted and a row for the true class.
    """
    test, predicted = inspected.dataset.test, inspected.predicted[indices]
    images, labels = test.images[indices], test.labels[indices]
    explained = {"predicted class": predicted}
    if (predicted != labels).any():
        explained["true class"] = labels
    rows, row_labels = [[image_grid.grey(image[..., 0]) for image in images]], ["image"]
    for name, method in attribution.METHODS.items():
        maps = [method(inspected.members, images, classes) for classes in explained.values()]
        # A few pixels with extreme values would make all others pale.
        limits = np.quantile(np.abs(maps), LIMIT_QUANTILE, axis=(0, 2, 3))
        has_sign = np.min(maps) < 0
        for described, of_class in zip(explained, maps, strict=True):
            rows.append(
                [
                    image_grid.overlay(image[..., 0], values, limit, has_sign)
                    for image, values, limit in zip(images, of_class, limits, strict=True)
                ]
            )
            row_labels.append(f"{name},\n{described}" if len(explained) > 1 else name)
    confidences = inspected.probabilities[indices].max(axis=1)
    texts, colours = [], []
    for label, prediction, confidence in zip(labels, predicted, confidences, strict=True):
        right = label == prediction
        texts.append(
            f"{CLASS_NAMES[prediction]} {confidence:.1%}"
            + ("" if right else f"\ntrue: {CLASS_NAMES[label]}")
        )
        colours.append(CORRECT_COLOUR if right else WRONG_COLOUR)
    empty = [()] * (len(rows) - 1)
    return image_grid.grid(
        rows, title, row_labels, [texts, *empty], [colours, *empty], cell_size=1.15
    )
