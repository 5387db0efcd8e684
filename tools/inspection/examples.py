"""Images that the network finds similar: maps of the test set, classes, nearest neighbours."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import plots
from fmnist import html_report, image_grid
from fmnist.evaluation import activations, embedding, metrics, report
from fmnist.source import CLASS_NAMES
from tools.inspection.inspected import MISTAKES, Inspected, Part

EMBEDDED = 5000  # test images in the maps, because t-SNE is slow
NEIGHBOURS = 6  # training images beside a mistake
CHUNK = 5000  # training images whose features are in memory at the same time
HOVER_PAGE = Path(__file__).with_name("embedding.html")
SPRITE_COLUMNS = 100  # images in a row of the picture that contains all images


def embedding_maps(inspected: Inspected) -> Part:
    """Draw the input of the classifier for test images in two dimensions."""
    test = inspected.dataset.test
    images, labels = test.images[:EMBEDDED], test.labels[:EMBEDDED]
    predicted = inspected.predicted[:EMBEDDED]
    features = activations.features(inspected.members, images)
    points = embedding.flat_maps(features)
    purity = embedding.neighbour_purity(features, labels, len(CLASS_NAMES))
    pixels = embedding.neighbour_purity(images.reshape(len(images), -1), labels, len(CLASS_NAMES))
    head = ("class", "features of the network", "pixels")
    rows = [
        (name, f"{of_features:.1%}", f"{of_pixels:.1%}")
        for name, of_features, of_pixels in zip(CLASS_NAMES, purity, pixels, strict=True)
    ]
    part = Part(
        "Embedding",
        [
            html_report.paragraph(
                f"The input of the last layer, {features.shape[1]:,} numbers per image, for the "
                f"first {len(images):,} test images in two dimensions. The network has learned to "
                "put images of a class together. t-SNE preserves neighbourhoods; its larger "
                "distances have no meaning. Point at an image to see it; mistakes have a red "
                "outline."
            ),
            hover_element(points, images, labels, predicted),
            html_report.paragraph(
                f"Purity: how many of the {embedding.NEIGHBOURS} nearest neighbours of an image "
                "among these have the same class, compared by the features and by the pixels."
            ),
            html_report.table(head, rows),
        ],
        results={
            "neighbour_purity": dict(zip(CLASS_NAMES, purity, strict=True)),
            "neighbour_purity_of_pixels": dict(zip(CLASS_NAMES, pixels, strict=True)),
        },
    )
    part.figures["embedding"] = (
        plots.maps(points, labels, CLASS_NAMES, predicted != labels),
        f"{len(images):,} test images by the input of the last layer, in two dimensions.",
    )
    part.tables["neighbour_purity"] = head, rows
    part.tables["embedding"] = (
        ("test_index", "label", "predicted", "pca_x", "pca_y", "tsne_x", "tsne_y"),
        [
            (
                index,
                CLASS_NAMES[label],
                CLASS_NAMES[prediction],
                *(f"{value:.4g}" for value in place),
            )
            for index, (label, prediction, place) in enumerate(
                zip(labels, predicted, np.hstack(list(points.values())), strict=True)
            )
        ],
    )
    return part


def hover_element(
    points: dict[str, np.ndarray], images: np.ndarray, labels: np.ndarray, predicted: np.ndarray
) -> str:
    """Return the HTML of the maps, which show an image when the pointer is on it.

    Args:
        points: coordinates (N, 2) by name of the method.
        images: (N, 28, 28, 1).
        labels: true classes (N,).
        predicted: predicted classes (N,).
    """
    maps = {}
    for name, coordinates in points.items():
        low, high = coordinates.min(axis=0), coordinates.max(axis=0)
        maps[name] = np.round((coordinates - low) / (high - low), 4).tolist()
    content = {
        "maps": maps,
        "labels": labels.tolist(),
        "predicted": predicted.tolist(),
        "names": CLASS_NAMES,
        "colours": plots.CLASS_COLOURS,
        "wrongColour": plots.WRONG_COLOUR,
        "sprite": f"data:image/png;base64,{base64.b64encode(sprite(images)).decode()}",
        "spriteColumns": SPRITE_COLUMNS,
    }
    # "<" could end the script element.
    text = json.dumps(content).replace("<", "\\u003c")
    return HOVER_PAGE.read_text(encoding="utf-8").replace("CONTENT", text)


def sprite(images: np.ndarray) -> bytes:
    """Return a PNG file with all images (N, 28, 28, 1) in rows of SPRITE_COLUMNS, dark on white."""
    rows = -(-len(images) // SPRITE_COLUMNS)
    height, width = images.shape[1:3]
    padded = np.zeros((rows * SPRITE_COLUMNS, height, width), np.uint8)
    padded[: len(images)] = np.rint(255 * images[..., 0])
    tiles = padded.reshape(rows, SPRITE_COLUMNS, height, width).transpose(0, 2, 1, 3)
    stream = io.BytesIO()
    Image.fromarray(255 - tiles.reshape(rows * height, -1)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def classes(inspected: Inspected) -> Part:
    """Show how well every class is recognised, and with which others it is confused."""
    test, probabilities = inspected.dataset.test, inspected.probabilities
    scores = metrics.per_class(test.labels, probabilities, CLASS_NAMES)
    pairs = metrics.confused_pairs(test.labels, probabilities, CLASS_NAMES)
    figures = {
        "roc_and_precision_recall": plots.roc_and_precision_recall(
            metrics.one_versus_rest(test.labels, probabilities), CLASS_NAMES
        ),
        "confused_pairs": plots.confused_pairs(pairs, *test, probabilities, CLASS_NAMES),
        "confidence_by_class": plots.confidence_by_class(
            metrics.reliability_by_class(test.labels, probabilities), CLASS_NAMES
        ),
    }
    head = ("class", "precision", "recall", "f1-score", "roc_auc", "average_precision", "support")
    rows = [
        (
            name,
            *(f"{scores[name][key]:.4f}" for key in head[1:-1]),
            f"{scores[name]['support']:.0f}",
        )
        for name in CLASS_NAMES
    ]
    pair_head = ("class", "other_class", "as_other_class", "other_as_class", "fraction_of_mistakes")
    return Part(
        "Classes",
        [
            html_report.paragraph(
                "ROC AUC is the area under the ROC curve of a class against the rest. It is near 1 "
                "for every class, because most images belong to other classes; the average "
                "precision shows the differences better."
            ),
            html_report.table(
                ("class", "precision", "recall", "F1", "ROC AUC", "average precision", "images"),
                rows,
            ),
        ],
        {name: (figure, report.CAPTIONS[name]) for name, figure in figures.items()},
        results={"confused_pairs": pairs, "per_class": scores},
        tables={
            "classes": (head, rows),
            "confused_pairs": (
                pair_head,
                [
                    (
                        *pair["classes"],
                        *pair["mistakes_by_true_class"],
                        f"{pair['fraction_of_mistakes']:.4f}",
                    )
                    for pair in pairs
                ],
            ),
        },
    )


def nearest_images(inspected: Inspected) -> Part:
    """Show the training images that the network finds most similar to confident mistakes."""
    part = Part("Nearest training images of the mistakes", [])
    worst = inspected.mistakes[:MISTAKES]
    if not len(worst):
        part.html.append(html_report.paragraph("The network makes no mistakes on the test set."))
        return part
    train, test = inspected.dataset.train, inspected.dataset.test
    features = activations.features(inspected.members, test.images[worst])
    neighbours, distances = embedding.nearest(features, training_features(inspected), NEIGHBOURS)
    rows, titles, colours, table = [], [], [], []
    for index, near, near_distances in zip(worst, neighbours, distances, strict=True):
        label, near_labels = test.labels[index], train.labels[near]
        predicted = CLASS_NAMES[inspected.predicted[index]]
        confidence = inspected.probabilities[index].max()
        names = [CLASS_NAMES[near_label] for near_label in near_labels]
        images = (test.images[index], *train.images[near])
        rows.append([image_grid.grey(image[..., 0]) for image in images])
        titles.append([f"{predicted} {confidence:.1%}\ntrue: {CLASS_NAMES[label]}", *names])
        agrees = [False, *(near_labels == label)]
        colours.append([plots.CORRECT_COLOUR if same else plots.WRONG_COLOUR for same in agrees])
        mistake = (index, CLASS_NAMES[label], predicted, f"{confidence:.4f}")
        indices = inspected.train_indices[near]
        for neighbour in zip(indices, names, map("{:.4g}".format, near_distances), strict=True):
            table.append((*mistake, *neighbour))
    part.html.append(
        html_report.paragraph(
            f"For the {len(worst)} most confident mistakes, the closest training images by the "
            "input of the last layer. They show what the network compares the image with. If they "
            "look the same to you, too, the label of the test image is worth a look; but their "
            "agreement with the prediction is no independent evidence, because the prediction "
            "comes from the same numbers."
        )
    )
    part.figures["nearest_images"] = (
        image_grid.grid(
            rows,
            "Mistakes (left) and the nearest training images, with their labels",
            titles=titles,
            colours=colours,
            cell_size=1.0,
            gaps=[1],
        ),
        "Labels of training images are blue if they agree with the label of the test image, red "
        "if not.",
    )
    part.tables["nearest_images"] = (
        (
            *("test_index", "label", "predicted", "confidence"),
            *("training_index", "training_label", "distance"),
        ),
        table,
    )
    return part


def training_features(inspected: Inspected) -> Iterator[np.ndarray]:
    """Yield the features of the training images in parts."""
    images = inspected.dataset.train.images
    for start in range(0, len(images), CHUNK):
        yield activations.features(inspected.members, images[start : start + CHUNK])
