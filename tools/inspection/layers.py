"""What the convolutions of a network compute: kernels, strongest patches and feature maps."""

from collections.abc import Iterator

import keras
import numpy as np
from matplotlib.figure import Figure

from fmnist import html_report, image_grid
from fmnist.evaluation import activations
from fmnist.source import CLASS_NAMES
from tools.inspection.inspected import Inspected, Part

SAMPLE = 2000  # test images that are searched for strong activations
CHANNELS = 3  # of every convolution
PATCHES = 6  # of every channel
LAYERS_PER_FIGURE = 8
KERNELS_PER_ROW = 18  # at most; the rows have equal lengths
KINDS = "Convolutions are numbered in the order of computation."


def filters(inspected: Inspected) -> Part:
    """Show the kernels of the first convolution, and the patches that activate the others most."""
    member = inspected.members[0]
    # A convolution of a single pixel, as at the start of mobilenet, has no filters to look at.
    first = next(
        (i for i, layer in enumerate(member.convolutions) if max(layer.kernel_size) > 1), 0
    )
    part = Part(
        "Filters",
        [
            html_report.paragraph(
                "A channel of the first convolution multiplies every small patch of the image by "
                "its kernel and adds up the products. For the later convolutions, patches show "
                "what a channel reacts to: the places with its highest output among "
                f"{SAMPLE:,} test images, one per image. "
                "A patch is as large as the receptive field, the pixels on which the output "
                "depends; bluish pixels are outside the field or the image. The channels are "
                "those whose mean output differs most between the classes. "
                f"{of_ensemble(inspected)}"
            )
        ],
    )
    part.figures["filters"] = (
        kernels(member.convolutions[first], first + 1),
        f"The kernels of convolution {first + 1} on one scale: red is positive, blue is negative.",
    )
    test = inspected.dataset.test
    images, labels = test.images[:SAMPLE], test.labels[:SAMPLE]
    channels = chosen_channels(member, images, labels)
    patches = activations.strongest_patches(member, images, channels, PATCHES)
    later = [index for index in range(len(patches)) if index > first]
    for number, chunk in enumerate(chunks(later), 1):
        rows, row_labels, titles = [], [], []
        for index in chunk:
            layer, field = member.convolutions[index], member.receptive_fields[index]
            rows.append(
                [
                    image_grid.grey(activations.patch(images[image, ..., 0], field, row, column))
                    for places in zip(*patches[index][1:], strict=True)
                    for image, row, column in zip(*places, strict=True)
                ]
            )
            row_labels.append(f"{index + 1}  {layer.name}\nfield {field.size} × {field.size}")
            titles.append(
                [
                    f"channel {channel}" if position == 0 else ""
                    for channel in patches[index].channels
                    for position in range(PATCHES)
                ]
            )
        part.figures[numbered("patches", number)] = (
            image_grid.grid(
                rows,
                "Patches of test images that activate a channel most",
                row_labels,
                titles,
                cell_size=0.62,
                gaps=[PATCHES, 2 * PATCHES],
            ),
            f"The strongest {PATCHES} patches of {CHANNELS} channels of every later convolution. "
            + KINDS,
        )
    part.tables["convolutions"] = (
        ("number", "layer", "type", "kernel", "channels", "receptive_field", "parameters"),
        [
            (
                index + 1,
                layer.name,
                type(layer).__name__,
                " × ".join(map(str, layer.kernel_size)),
                layer.output.shape[-1],
                field.size,
                layer.count_params(),
            )
            for index, (layer, field) in enumerate(
                zip(member.convolutions, member.receptive_fields, strict=True)
            )
        ],
    )
    return part


def kernels(layer: keras.layers.Layer, number: int) -> Figure:
    """Return the figure of the kernels of a convolution, on one scale.

    The inputs of a first convolution with several input channels are copies of one image, so that
    the sum over them is the kernel that the image meets.
    """
    kernel = layer.kernel.numpy().sum(axis=2)  # (height, width, channels)
    limit = np.abs(kernel).max()
    cells = [image_grid.signed(values, limit) for values in kernel.transpose(2, 0, 1)]
    row_count = -(-len(cells) // KERNELS_PER_ROW)
    starts = range(0, len(cells), -(-len(cells) // row_count))
    rows = [cells[start : start + starts.step] for start in starts]
    titles = [
        [str(start + position) for position in range(len(row))]
        for start, row in zip(starts, rows, strict=True)
    ]
    trained = "" if layer.trainable else ", not trained"
    height, width = layer.kernel_size
    return image_grid.grid(
        rows,
        f"Convolution {number}: {layer.name}, {len(cells)} kernels of {height} × {width}{trained}",
        titles=titles,
        cell_size=0.6,
        colour_bar=(image_grid.DIVERGING, (f"{-limit:.2f}", f"{limit:.2f}")),
    )


def feature_maps(inspected: Inspected) -> Part:
    """Show one image of each class on its way through every convolution."""
    member, test = inspected.members[0], inspected.dataset.test
    correct = inspected.predicted == test.labels
    # The first correct prediction of each class, or else its first image.
    chosen = [
        np.flatnonzero(test.labels == label)[np.argmax(correct[test.labels == label])]
        for label in range(len(CLASS_NAMES))
    ]
    images = test.images[chosen]
    outputs = [output.numpy() for output in member(images).convolutions]
    channels = chosen_channels(member, test.images[:SAMPLE], test.labels[:SAMPLE])
    part = Part(
        "Feature maps",
        [
            html_report.paragraph(
                "The output of every convolution for one image of each class: the channels whose "
                "mean output differs most between the classes. All maps of a convolution share one "
                "scale. If a convolution includes its activation function, yellow is high and "
                "violet is zero; otherwise red is positive and blue is negative. "
                f"{of_ensemble(inspected)}"
            )
        ],
    )
    for number, chunk in enumerate(chunks(list(range(len(outputs)))), 1):
        rows = [[image_grid.grey(image[..., 0]) for image in images]]
        row_labels = ["image"]
        for index in chunk:
            shown = outputs[index][..., channels[index]]
            limit, colour = np.abs(shown).max(), image_grid.positive
            if shown.min() < 0:
                colour = image_grid.signed
            for position, channel in enumerate(channels[index]):
                rows.append([colour(maps, limit) for maps in shown[..., position]])
                shape = " × ".join(map(str, outputs[index].shape[1:]))
                name = f"{index + 1}  {member.convolutions[index].name}\n{shape}, "
                row_labels.append(f"{name if position == 0 else ''}channel {channel}")
        part.figures[numbered("feature_maps", number)] = (
            image_grid.grid(
                rows,
                "Outputs of the convolutions for one image of each class",
                row_labels,
                [CLASS_NAMES, *[()] * (len(rows) - 1)],
                cell_size=0.85,
            ),
            f"Feature maps of one test image of each class, with {CHANNELS} channels per "
            f"convolution. {KINDS}",
        )
    return part


def chosen_channels(
    member: activations.Member, images: np.ndarray, labels: np.ndarray
) -> list[np.ndarray]:
    """Return the channels to show, at most CHANNELS for every convolution."""
    sample = slice(activations.BATCH)
    return [
        activations.discriminating_channels(output.numpy(), labels[sample], CHANNELS)
        for output in member(images[sample]).convolutions
    ]


def chunks(indices: list[int]) -> Iterator[list[int]]:
    """Yield the indices in parts of LAYERS_PER_FIGURE."""
    for start in range(0, len(indices), LAYERS_PER_FIGURE):
        yield indices[start : start + LAYERS_PER_FIGURE]


def numbered(name: str, number: int) -> str:
    """Return the name of a figure; that of the first one stays as it is."""
    return name if number == 1 else f"{name}_{number}"


def of_ensemble(inspected: Inspected) -> str:
    """Return a sentence if only the first member of an ensemble is shown."""
    count = len(inspected.members)
    return f"Shown is the first of the {count} networks of the ensemble." if count > 1 else ""
