"""Measure the accuracy on synthetic photos and the warnings for out-of-distribution pictures.

    python -m benchmarks.photographs

Renders every test image as a photo with random properties, converts the photo back into a model
input (fmnist/inference/photo.py) and classifies it. Then classifies out-of-distribution pictures:
noise, drawings, digits and textures. Their generators were written independently, after the rule of
fmnist/evaluation/ood.py was chosen; the limits of the rule come from validation images. Prints two
tables and saves docs/photographs.png.
"""

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from fmnist import cli, runtime
from fmnist.evaluation import metrics
from fmnist.figure_style import default_style
from fmnist.inference import photo, picture_file
from fmnist.progress import track
from fmnist.source import CLASS_NAMES

ROOT = Path(__file__).parent.parent
ORIENTATION = 0x0112  # EXIF tag
# Transformation of an upright picture that a viewer reverses, by EXIF orientation.
TRANSFORMATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
BACKGROUNDS = {"white": (0.92, 1.0), "grey": (0.35, 0.65), "dark": (0.02, 0.15)}
MIN_CONTRAST = 0.3  # difference in brightness between object and background, of full scale
SIDE = 224  # width and height of an out-of-distribution picture, in pixels
SHOWN = 6  # photos in the figure


def photograph(image: np.ndarray, rng: np.random.Generator) -> bytes:
    """Return an image (28, 28) in [0, 1] rendered as a photo, as the content of a JPEG file.

    Random are: the size of the photo, the size and position of the object, the colours of
    background and object, which of them is lighter, a brightness gradient of the background and of
    the light, noise, the JPEG quality, and the EXIF orientation.
    """
    height, width = rng.choice([(480, 640), (640, 480), (512, 512), (320, 480), (960, 720)])
    edge = round(min(height, width) * rng.uniform(0.35, 0.9))
    top, left = rng.integers(height - edge + 1), rng.integers(width - edge + 1)
    shape = np.zeros((height, width, 1), np.float32)
    enlarged = Image.fromarray(image.astype(np.float32)).resize(
        (edge, edge), Image.Resampling.BICUBIC
    )
    shape[top : top + edge, left : left + edge, 0] = np.clip(enlarged, 0, 1)

    plain_background, colour = colours(rng)
    gradient = np.float32(rng.uniform(-0.15, 0.15)) * plane(height, width, rng)
    background = plain_background + gradient
    light = 1 - np.float32(rng.uniform(0, 0.3)) * (plane(height, width, rng) + 1) / 2
    pixels = light * (background + shape * (colour - background))
    pixels += np.float32(rng.uniform(0, 0.02)) * rng.standard_normal(pixels.shape, np.float32)
    picture = Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))

    exif, orientation = Image.Exif(), int(rng.integers(1, 9))
    exif[ORIENTATION] = orientation
    if orientation in TRANSFORMATIONS:
        picture = picture.transpose(TRANSFORMATIONS[orientation])
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=int(rng.integers(50, 96)), exif=exif)
    return stream.getvalue()


def colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return random colours of a background and of a darker or lighter object, (3,) in [0, 1]."""
    brightness = rng.uniform(*BACKGROUNDS[rng.choice(list(BACKGROUNDS))])
    background = (brightness + rng.uniform(-0.05, 0.05, 3)).clip(0, 1)
    darker, lighter = (
        (0, background.mean() - MIN_CONTRAST),
        (background.mean() + MIN_CONTRAST, 1),
    )
    ranges = [bounds for bounds in (darker, lighter) if bounds[0] < bounds[1]]
    low, high = ranges[rng.choice(len(ranges))]
    while True:
        colour = rng.uniform(0, 1, 3)
        if low <= colour.mean() <= high:
            return background.astype(np.float32), colour.astype(np.float32)


def plane(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return a plane (height, width, 1) that rises from -1 to 1 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    values = np.add.outer(
        np.sin(angle) * np.linspace(-1, 1, height), np.cos(angle) * np.linspace(-1, 1, width)
    )
    return (values / np.abs(values).max()).astype(np.float32)[..., None]


# Out-of-distribution pictures: (SIDE, SIDE) in [0, 1], a light object on black.


def noise(rng: np.random.Generator) -> np.ndarray:
    """Return speckles, or clouds of several sizes."""
    if rng.random() < 0.5:
        grains = rng.gamma(rng.uniform(0.5, 4), size=(rng.integers(20, SIDE),) * 2)
        return stretched(enlarge(grains))
    return stretched(
        sum(enlarge(rng.random((4 * 2**octave,) * 2)) / 2**octave for octave in range(5))
    )


def drawing(rng: np.random.Generator) -> np.ndarray:
    """Return a drawing of a flower, a spiral, a tree, a face or a graph."""
    picture = Image.new("L", (SIDE, SIDE))
    pen, centre, pen_width = ImageDraw.Draw(picture), SIDE / 2, int(rng.integers(3, 10))
    kind = rng.integers(5)
    if kind < 2:
        angles = np.linspace(0, rng.uniform(4, 12) * np.pi if kind else 2 * np.pi, 400)
        radii = angles / angles[-1] if kind else np.abs(np.cos(rng.integers(2, 6) * angles))
        x, y = centre + 95 * radii * np.cos(angles), centre + 95 * radii * np.sin(angles)
        curve(pen, x, y, pen_width)
    elif kind == 2:

        def branch(x, y, angle, length, levels):
            x2, y2 = x + length * np.cos(angle), y - length * np.sin(angle)
            curve(pen, [x, x2], [y, y2], max(2, levels * pen_width // 4))
            for turn in rng.uniform(0.2, 0.8, 2) * (-1, 1) if levels else ():
                branch(x2, y2, angle + turn, length * 0.75, levels - 1)

        branch(centre, SIDE - 10, np.pi / 2, 60, 4)
    elif kind == 3:
        outline = (centre - 90, centre - 90, centre + 90, centre + 90)
        pen.ellipse(outline, outline=255, width=pen_width)
        for side in (-1, 1):
            x, y = centre + side * rng.uniform(25, 45), centre - rng.uniform(15, 40)
            pen.ellipse((x - 10, y - 10, x + 10, y + 10), fill=255)
        pen.arc(
            (centre - 50, centre - 30, centre + 50, centre + 55),
            *((20, 160) if rng.random() < 0.5 else (200, 340)),
            fill=255,
            width=pen_width,
        )
    else:
        x = np.linspace(10, SIDE - 10, 200)
        waves = sum(
            rng.normal() * np.sin(rng.uniform(1, 12) * x / SIDE + rng.uniform(0, 6))
            for _ in range(4)
        )
        curve(pen, x, 20 + (SIDE - 40) * stretched(waves), pen_width)
        curve(pen, [10, 10, SIDE - 10], [10, SIDE - 10, SIDE - 10], pen_width)
    return np.asarray(picture) / 255


def digit(rng: np.random.Generator) -> np.ndarray:
    """Return a handwritten digit from scikit-learn, or a digit printed in a serif font."""
    if rng.random() < 0.5:
        import sklearn.datasets

        handwritten = sklearn.datasets.load_digits().images
        small = handwritten[rng.integers(len(handwritten))] / 16
        large = Image.fromarray(small.astype(np.float32))
        return np.pad(
            np.clip(large.resize((SIDE - 64, SIDE - 64), Image.Resampling.BICUBIC), 0, 1), 32
        )
    import matplotlib

    font = (
        Path(matplotlib.get_data_path())
        / "fonts/ttf"
        / rng.choice(["STIXGeneral.ttf", "STIXGeneralBolIta.ttf", "cmr10.ttf"])
    )
    picture = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(picture).text(
        (SIDE / 2, SIDE / 2),
        str(rng.integers(10)),
        fill=255,
        anchor="mm",
        font=ImageFont.truetype(str(font), int(rng.integers(120, 220))),
    )
    return np.asarray(picture.rotate(rng.uniform(-20, 20), Image.Resampling.BICUBIC)) / 255


def texture(rng: np.random.Generator) -> np.ndarray:
    """Return a texture: cells, rings, bricks or a weave."""
    y, x = np.mgrid[:SIDE, :SIDE] + rng.uniform(0, SIDE)
    kind, length = rng.integers(4), rng.uniform(8, 40)
    if kind == 0:
        seeds = np.ones((SIDE, SIDE))
        seeds[tuple(rng.integers(0, SIDE, (2, rng.integers(30, 300))))] = 0
        return stretched(ndimage.distance_transform_edt(seeds))
    if kind == 1:
        distortion = 6 * ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 12) * 12
        return stretched(np.sin(2 * np.pi * (np.hypot(x - SIDE, y - SIDE) + distortion) / length))
    if kind == 2:
        row = y // length
        joints = ((y % length) < length / 6) | (
            (x + (row % 2) * length) % (2 * length) < length / 6
        )
        return np.where(joints, 0.2, 0.6 + 0.4 * rng.random((SIDE, SIDE)))
    return stretched(
        np.where(
            (x // length + y // length) % 2,
            np.sin(np.pi * x / length) ** 2,
            np.sin(np.pi * y / length) ** 2,
        )
    )


def curve(pen: ImageDraw.ImageDraw, x: Iterable[float], y: Iterable[float], width: int) -> None:
    """Draw a white line through points."""
    pen.line(
        [*zip(map(float, x), map(float, y), strict=True)], fill=255, width=width, joint="curve"
    )


def enlarge(values: np.ndarray) -> np.ndarray:
    """Return values enlarged to (SIDE, SIDE)."""
    return np.asarray(
        Image.fromarray(values.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    )


def stretched(values: np.ndarray) -> np.ndarray:
    """Return values scaled to [0, 1]."""
    return (values - values.min()) / np.ptp(values)


def coloured(values: np.ndarray, rng: np.random.Generator, margin: bool) -> np.ndarray:
    """Return a picture (height, width, 3) uint8 in two random colours.

    Args:
        values: (SIDE, SIDE) in [0, 1], from the colour of the background to that of the object.
        rng: random generator.
        margin: whether a margin of background is added on all sides.
    """
    background, colour = colours(rng)
    values = np.pad(values, SIDE // 4) if margin else values
    pixels = background + values[..., None].astype(np.float32) * (colour - background)
    return (pixels * 255).round().astype(np.uint8)


OOD_KINDS = {"noise": noise, "drawings": drawing, "digits": digit, "textures": texture}


def ood_photos(kind: str, count: int, margin: bool, classifier: Any) -> list[photo.Photo]:
    """Return photos of out-of-distribution pictures.

    Args:
        kind: key of OOD_KINDS.
        count: number of photos.
        margin: see coloured().
        classifier: classifier.PhotoClassifier that converts them.
    """
    kind_index = list(OOD_KINDS).index(kind)
    rngs = (np.random.default_rng([kind_index, number]) for number in range(count))
    pictures = (coloured(OOD_KINDS[kind](rng), rng, margin) for rng in rngs)
    return [
        classifier.convert(np.asarray(picture_file.reduced(Image.fromarray(picture))))
        for picture in pictures
    ]


def measure(classifier: Any, test: Any, count: int, ood_count: int) -> Figure:
    """Print the tables and return the figure.

    Args:
        classifier: classifier.PhotoClassifier.
        test: data.Part with the test set.
        count: number of test images.
        ood_count: number of out-of-distribution pictures per kind.
    """
    from tools.prediction import figures

    files = [
        photograph(image[..., 0], np.random.default_rng(index))
        for index, image in enumerate(track(test.images[:count], "Rendering photos"))
    ]
    photos = [classifier.read(io.BytesIO(file)) for file in track(files, "Reading photos")]
    labels = test.labels[:count]
    plain = [photo.Photo(None, image[None], None, []) for image in test.images[:count]]
    outcomes_of = {
        "test images": classifier.photographs.classify_photographs(plain),
        "test images rendered as photos": classifier.classify(photos),
    }
    print(
        "| pictures | accuracy, % | uncertain, % | accuracy of the certain predictions, % |\n"
        "|---|---|---|---|"
    )
    accuracies = []
    for name, outcomes in outcomes_of.items():
        correct = np.array([outcome.probabilities.argmax() for outcome in outcomes]) == labels
        uncertain = np.array([outcome.uncertain for outcome in outcomes])
        accuracies.append(correct.mean())
        print(
            f"| {name} | {100 * correct.mean():.2f} | {100 * uncertain.mean():.1f} | "
            f"{100 * correct[~uncertain].mean():.2f} |"
        )
    low, high = metrics.accuracy_interval(accuracies[1], count)
    print(
        f"\nThe photos of {count:,} test images keep {accuracies[1] / accuracies[0]:.1%} of the "
        f"accuracy (95 % confidence interval of their accuracy: {low:.2%} to {high:.2%}).\n"
    )

    print(
        f"| uncertain, % of {ood_count} pictures per kind | plain background | filling the frame "
        "|\n|---|---|---|"
    )
    for kind in OOD_KINDS:
        rates = []
        for margin in (True, False):
            outcomes = classifier.classify(ood_photos(kind, ood_count, margin, classifier))
            rates.append(np.mean([outcome.uncertain for outcome in outcomes]))
        print(f"| {kind} | {100 * rates[0]:.1f} | {100 * rates[1]:.1f} |")
    shown = photos[:SHOWN]
    outcomes = classifier.classify(shown)
    return figures.photographs(
        shown,
        [outcome.probabilities for outcome in outcomes],
        [
            f"{CLASS_NAMES[label]} (uncertain)" if outcome.uncertain else CLASS_NAMES[label]
            for label, outcome in zip(labels, outcomes, strict=False)
        ],
        CLASS_NAMES,
    )


def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    cli.add_run_options(parser)
    cli.add_data_dir(parser)
    parser.add_argument(
        "--images",
        type=cli.number(int, SHOWN, 10_001),
        default=10_000,
        metavar="N",
        help="number of test images that are rendered as photos (default: %(default)s)",
    )
    parser.add_argument(
        "--ood-images",
        type=cli.number(int, 1, 1e5),
        default=500,
        metavar="N",
        help="number of out-of-distribution pictures per kind (default: %(default)s)",
    )
    options = parser.parse_args(argv)

    def work() -> None:
        runtime.configure_tensorflow()
        import data
        from fmnist.inference.classifier import load_photo_classifier

        classifier = load_photo_classifier(options.run, options.runs_dir)
        print(f"{classifier.description()}\n")
        with default_style():
            figure = measure(
                classifier, data.load(options.data_dir).test, options.images, options.ood_images
            )
            figure.savefig(ROOT / "docs/photographs.png", dpi=110)

    return cli.exit_code("photographs.py", work)


if __name__ == "__main__":
    sys.exit(main())
