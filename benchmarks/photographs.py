"""Measure what photo.py keeps of a network's accuracy, and how often pictures of other things are
called unsure.

    python -m benchmarks.photographs --run pretrained/best

Every test image is rendered as a photograph of chance, read again, and classified. Then pictures of
noise, drawings, digits and textures are, whose generators were written after the rule of
fmnist/evaluation/ood.py was chosen, by others; its limits are by the validation images. Prints two
tables and draws docs/photographs.png.
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

from fmnist import cli, runs, runtime
from fmnist.evaluation import metrics
from fmnist.inference import photo
from fmnist.source import CLASS_NAMES

ROOT = Path(__file__).parent.parent
ORIENTATION = 0x0112  # of EXIF
# What a camera makes of an upright picture that a viewer turns back by this orientation.
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
GROUNDS = {"white": (0.92, 1.0), "grey": (0.35, 0.65), "dark": (0.02, 0.15)}
CONTRAST = 0.3  # of object and ground, at least, of full scale
SIDE = 224  # pixels of a picture of something else
SHOWN = 6


def photograph(image: np.ndarray, rng: np.random.Generator) -> bytes:
    """Return a JPEG file of an image (28, 28) in [0, 1] as somebody might have taken its object.

    Of chance are: size and shape of the picture, size and place of the object, the colours of
    ground and object and which of both is lighter, light that falls off to one side, a ground that
    changes its grey, noise, the compression, and how the camera was held.
    """
    height, width = rng.choice([(480, 640), (640, 480), (512, 512), (320, 480), (960, 720)])
    edge = round(min(height, width) * rng.uniform(0.35, 0.9))
    top, left = rng.integers(height - edge + 1), rng.integers(width - edge + 1)
    shape = np.zeros((height, width, 1), np.float32)
    enlarged = Image.fromarray(image.astype(np.float32)).resize(
        (edge, edge), Image.Resampling.BICUBIC
    )
    shape[top : top + edge, left : left + edge, 0] = np.clip(enlarged, 0, 1)

    ground, colour = colours(rng)
    grounds = ground + np.float32(rng.uniform(-0.15, 0.15)) * slope(height, width, rng)
    light = 1 - np.float32(rng.uniform(0, 0.3)) * (slope(height, width, rng) + 1) / 2
    pixels = light * (grounds + shape * (colour - grounds))
    pixels += np.float32(rng.uniform(0, 0.02)) * rng.standard_normal(pixels.shape, np.float32)
    picture = Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))

    exif, orientation = Image.Exif(), int(rng.integers(1, 9))
    exif[ORIENTATION] = orientation
    if orientation in TURNED:
        picture = picture.transpose(TURNED[orientation])
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=int(rng.integers(50, 96)), exif=exif)
    return stream.getvalue()


def colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the colours of a ground and of an object that is darker or lighter, (3,) in [0, 1]."""
    ground = (rng.uniform(*GROUNDS[rng.choice(list(GROUNDS))]) + rng.uniform(-0.05, 0.05, 3)).clip(
        0, 1
    )
    ranges = [(0, ground.mean() - CONTRAST), (ground.mean() + CONTRAST, 1)]
    least, most = ranges[
        rng.choice([number for number, (low, high) in enumerate(ranges) if low < high])
    ]
    while True:
        colour = rng.uniform(0, 1, 3)
        if least <= colour.mean() <= most:
            return ground.astype(np.float32), colour.astype(np.float32)


def slope(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return a plane (height, width, 1) from -1 to 1 that rises in some direction."""
    angle = rng.uniform(0, 2 * np.pi)
    plane = np.add.outer(
        np.sin(angle) * np.linspace(-1, 1, height), np.cos(angle) * np.linspace(-1, 1, width)
    )
    return (plane / np.abs(plane).max()).astype(np.float32)[..., None]


# Pictures of other things, (SIDE, SIDE) in [0, 1], light on black.


def noise(rng: np.random.Generator) -> np.ndarray:
    """Speckles or clouds of several sizes."""
    if rng.random() < 0.5:
        grains = rng.gamma(rng.uniform(0.5, 4), size=(rng.integers(20, SIDE),) * 2)
        return stretched(enlarge(grains))
    return stretched(
        sum(enlarge(rng.random((4 * 2**octave,) * 2)) / 2**octave for octave in range(5))
    )


def drawing(rng: np.random.Generator) -> np.ndarray:
    """A spiral, a flower, a tree, a face or a graph."""
    picture = Image.new("L", (SIDE, SIDE))
    pen, centre, wide = ImageDraw.Draw(picture), SIDE / 2, int(rng.integers(3, 10))
    kind = rng.integers(5)
    if kind < 2:
        angles = np.linspace(0, rng.uniform(4, 12) * np.pi if kind else 2 * np.pi, 400)
        radii = angles / angles[-1] if kind else np.abs(np.cos(rng.integers(2, 6) * angles))
        curve(pen, centre + 95 * radii * np.cos(angles), centre + 95 * radii * np.sin(angles), wide)
    elif kind == 2:

        def branch(x, y, angle, long, left):
            x2, y2 = x + long * np.cos(angle), y - long * np.sin(angle)
            curve(pen, [x, x2], [y, y2], max(2, left * wide // 4))
            for turn in rng.uniform(0.2, 0.8, 2) * (-1, 1) if left else ():
                branch(x2, y2, angle + turn, long * 0.75, left - 1)

        branch(centre, SIDE - 10, np.pi / 2, 60, 4)
    elif kind == 3:
        pen.ellipse((centre - 90, centre - 90, centre + 90, centre + 90), outline=255, width=wide)
        for side in (-1, 1):
            x, y = centre + side * rng.uniform(25, 45), centre - rng.uniform(15, 40)
            pen.ellipse((x - 10, y - 10, x + 10, y + 10), fill=255)
        pen.arc(
            (centre - 50, centre - 30, centre + 50, centre + 55),
            *((20, 160) if rng.random() < 0.5 else (200, 340)),
            fill=255,
            width=wide,
        )
    else:
        x = np.linspace(10, SIDE - 10, 200)
        waves = sum(
            rng.normal() * np.sin(rng.uniform(1, 12) * x / SIDE + rng.uniform(0, 6))
            for _ in range(4)
        )
        curve(pen, x, 20 + (SIDE - 40) * stretched(waves), wide)
        curve(pen, [10, 10, SIDE - 10], [10, SIDE - 10, SIDE - 10], wide)
    return np.asarray(picture) / 255


def digit(rng: np.random.Generator) -> np.ndarray:
    """A digit written by hand (scikit-learn's) or printed, in letters with serifs."""
    if rng.random() < 0.5:
        import sklearn.datasets

        written = sklearn.datasets.load_digits().images
        large = Image.fromarray((written[rng.integers(len(written))] / 16).astype(np.float32))
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
    """Cells, rings, bricks or a weave."""
    y, x = np.mgrid[:SIDE, :SIDE] + rng.uniform(0, SIDE)
    kind, length = rng.integers(4), rng.uniform(8, 40)
    if kind == 0:
        seeds = np.ones((SIDE, SIDE))
        seeds[tuple(rng.integers(0, SIDE, (2, rng.integers(30, 300))))] = 0
        return stretched(ndimage.distance_transform_edt(seeds))
    if kind == 1:
        bent = 6 * ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 12) * 12
        return stretched(np.sin(2 * np.pi * (np.hypot(x - SIDE, y - SIDE) + bent) / length))
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
    pen.line(
        [*zip(map(float, x), map(float, y), strict=True)], fill=255, width=width, joint="curve"
    )


def enlarge(values: np.ndarray) -> np.ndarray:
    return np.asarray(
        Image.fromarray(values.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    )


def stretched(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / np.ptp(values)


def on_ground(values: np.ndarray, rng: np.random.Generator, framed: bool) -> np.ndarray:
    """Return the picture as (height, width, 3) uint8 in two colours; framed: with that of the
    ground around it.
    """
    ground, colour = colours(rng)
    values = np.pad(values, SIDE // 4) if framed else values
    return (
        ((ground + values[..., None].astype(np.float32) * (colour - ground)) * 255)
        .round()
        .astype(np.uint8)
    )


OTHERS = {"noise": noise, "drawings": drawing, "digits": digit, "textures": texture}


def other_photos(kind: str, count: int, framed: bool) -> list[photo.Photo]:
    """Return Photos of one kind of OTHERS."""
    rngs = (np.random.default_rng([list(OTHERS).index(kind), number]) for number in range(count))
    pictures = (on_ground(OTHERS[kind](rng), rng, framed) for rng in rngs)
    return [
        photo.convert(np.asarray(photo.reduced(Image.fromarray(picture)))) for picture in pictures
    ]


def measure(classifier: Any, test: Any, count: int, others: int) -> Figure:
    """Print the tables and return the figure."""
    from tools.prediction import figures, pictures

    files = [
        photograph(image[..., 0], np.random.default_rng(number))
        for number, image in enumerate(pictures.track(test.images[:count], "Photographs"))
    ]
    photos = [photo.read(io.BytesIO(file)) for file in pictures.track(files, "Reading")]
    labels = test.labels[:count]
    plain = [photo.Photo(None, image, None, []) for image in test.images[:count]]
    print("| | accuracy, % | called unsure, % | accuracy of the others, % |\n|---|---|---|---|")
    accuracies = []
    for name, group in (("test images", plain), ("the same as photographs", photos)):
        probabilities, warnings = classifier.classify(group)
        correct, uncertain = (
            probabilities.argmax(axis=1) == labels,
            np.array([bool(reasons) for reasons in warnings]),
        )
        accuracies.append(correct.mean())
        print(
            f"| {name} | {correct.mean():.2%} | {uncertain.mean():.1%} | "
            f"{correct[~uncertain].mean():.2%} |"
        )
    low, high = metrics.accuracy_interval(accuracies[1], count)
    print(
        f"\nKept: {accuracies[1] / accuracies[0]:.1%} of the accuracy, of {count:,} images "
        f"(95 % interval of the photographs' accuracy: {low:.2%} to {high:.2%}).\n"
    )

    print(
        f"| called unsure, of {others} each | on a plain ground | filling the picture |\n"
        "|---|---|---|"
    )
    for kind in OTHERS:
        rates = []
        for framed in (True, False):
            _, warnings = classifier.classify(other_photos(kind, others, framed))
            rates.append(np.mean([bool(reasons) for reasons in warnings]))
        print(f"| {kind} | {rates[0]:.1%} | {rates[1]:.1%} |")
    shown = photos[:SHOWN]
    probabilities, warnings = classifier.classify(shown)
    return figures.photographs(
        shown,
        probabilities,
        [
            f"{CLASS_NAMES[label]}{' (uncertain)' * bool(reasons)}"
            for label, reasons in zip(labels, warnings, strict=False)
        ],
        CLASS_NAMES,
    )


def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    cli.add_run_options(parser)
    parser.add_argument("--data-dir", type=cli.path, help="folder with the four files")
    parser.add_argument(
        "--images",
        type=cli.number(int, SHOWN, 10_001),
        default=10_000,
        help="test images (%(default)s)",
    )
    parser.add_argument(
        "--others",
        type=cli.number(int, 1, 1e5),
        default=500,
        help="other pictures of a kind (%(default)s)",
    )
    options = parser.parse_args(argv)

    def work() -> None:
        runtime.configure_tensorflow()
        import data
        from fmnist.inference.classifier import load_classifier

        run = runs.find_run(options.run, options.runs_dir)
        print(f"Run: {run}\n")
        classifier = load_classifier(run)
        figure = measure(
            classifier, data.load(options.data_dir).test, options.images, options.others
        )
        figure.savefig(ROOT / "docs/photographs.png", dpi=110)

    return cli.exit_code("photographs.py", work)


if __name__ == "__main__":
    sys.exit(main())
