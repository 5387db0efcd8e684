"""Images of things that are no clothes, from which a network learns to be uncertain.

Hendrycks, Mazeika and Dietterich, "Deep Anomaly Detection with Outlier Exposure",
https://arxiv.org/abs/1812.04606
"""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from fmnist.inference.photo import SIZE, fitted

CANVAS = 4 * SIZE  # height and width of a drawing, in pixels
VISIBLE = 0.05  # smallest value of a pixel of the thing


def outliers(
    images: np.ndarray, backgrounds: list[Image.Image], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return model inputs (count, 28, 28, 1) in [0, 1] that show no item of clothing.

    Args:
        images: images of Fashion-MNIST (N, 28, 28, 1) in [0, 1]; parts of them are mixed.
        backgrounds: pieces of backgrounds of photographs; may be empty.
        count: number of images.
        rng: random generator.
    """
    kinds = [blob, speckles, shapes, shapes, strokes, strokes, texture]
    result = np.empty((count, SIZE, SIZE, 1), np.float32)
    for index in range(count):
        source = rng.random()
        if source < 0.15:
            values = shuffled(images, rng)
        elif source < 0.25:
            values = combined(images, rng)
        elif source < 0.4 and backgrounds:
            values = piece(backgrounds[rng.integers(len(backgrounds))], rng)
        else:
            values = kinds[rng.integers(len(kinds))](rng)
        result[index, ..., 0] = values / max(values.max(), 1e-3)
    return result


def blob(rng: np.random.Generator) -> np.ndarray:
    """Return a smooth blob with a smooth texture."""
    field = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), rng.uniform(1.5, 5))
    return (field > np.quantile(field, rng.uniform(0.3, 0.8))) * smooth(rng)


def speckles(rng: np.random.Generator) -> np.ndarray:
    """Return an ellipse of noise."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] - (SIZE - 1) / 2
    ellipse = x**2 / rng.uniform(30, 190) + y**2 / rng.uniform(30, 190) < 1
    return (rng.random((SIZE, SIZE)) < rng.uniform(0.2, 0.8)) * ellipse * smooth(rng)


def smooth(rng: np.random.Generator) -> np.ndarray:
    """Return a smooth texture between 0.3 and 1."""
    return 0.3 + 0.7 * ndimage.zoom(rng.random((7, 7)), SIZE / 7, order=1)


def shapes(rng: np.random.Generator) -> np.ndarray:
    """Return up to three ellipses, rectangles, polygons or rings, which fill the frame."""
    picture = Image.new("L", (CANVAS, CANVAS))
    pen, centre = ImageDraw.Draw(picture), CANVAS / 2
    for _ in range(rng.integers(1, 4)):
        left, top = rng.uniform(0, 0.7 * CANVAS, 2)
        frame = (left, top, *(np.array((left, top)) + rng.uniform(0.2, 1, 2) * CANVAS))
        grey, kind = int(rng.integers(90, 256)), rng.integers(4)
        if kind == 0:
            pen.ellipse(frame, fill=grey)
        elif kind == 1:
            pen.rectangle(frame, fill=grey)
        elif kind == 2:
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
            radii = rng.uniform(0.13, 0.5, len(angles)) * CANVAS
            x, y = centre + radii * np.cos(angles), centre + radii * np.sin(angles)
            pen.polygon([*zip(x.tolist(), y.tolist(), strict=True)], fill=grey)
        else:
            pen.ellipse(frame, outline=grey, width=int(rng.integers(4, 20)))
    values = trimmed(picture.rotate(rng.uniform(0, 360)))
    if rng.random() < 0.5:
        values = values * (1 + 0.5 * ndimage.zoom(rng.normal(size=(7, 7)), SIZE / 7, order=1)).clip(
            0.2, 2
        )
    return values


def strokes(rng: np.random.Generator) -> np.ndarray:
    """Return up to four curved strokes, which fill the frame."""
    picture = Image.new("L", (CANVAS, CANVAS))
    pen, thickness = ImageDraw.Draw(picture), int(rng.integers(2, 12))
    for _ in range(rng.integers(1, 5)):
        directions = np.cumsum(rng.normal(rng.normal(0, 0.2), 0.3, rng.integers(5, 40)))
        steps = rng.uniform(2, 9) * np.stack([np.cos(directions), np.sin(directions)], axis=1)
        points = rng.uniform(0.2, 0.8, 2) * CANVAS + np.cumsum(steps, axis=0)
        pen.line([*map(tuple, points.tolist())], fill=255, width=thickness, joint="curve")
    return trimmed(picture)


def trimmed(picture: Image.Image) -> np.ndarray:
    """Return a drawing as values (SIZE, SIZE) that fill the frame."""
    values = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BOX), np.float32) / 255
    found = ndimage.find_objects((values > VISIBLE).astype(int))
    return fitted(values[found[0]] if found else np.ones_like(values))[..., 0]


def piece(background: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Return the inverted luminance of a background, as a rectangle or an ellipse."""
    width, height = (int(edge) for edge in rng.integers(SIZE // 3, SIZE + 1, 2))
    grey = background.convert("L").resize((width, height), Image.Resampling.BOX)
    values = fitted(1 - np.asarray(grey, np.float32) / 255)[..., 0]
    if rng.random() < 0.5:
        y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
        values = values * (x**2 + y**2 < 1)
    return values


def texture(rng: np.random.Generator) -> np.ndarray:
    """Return a texture that fills the frame, or a band of it."""
    cells = int(rng.integers(2, 15))
    grains = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
    values = np.array(grains.resize((SIZE, SIZE), Image.Resampling.BICUBIC)).clip(0, 1)
    if rng.random() < 0.5:
        margin = int(rng.integers(0, SIZE // 4 + 1))
        values[:margin] = values[SIZE - margin :] = 0
    return values.T if rng.random() < 0.5 else values


def shuffled(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an image whose quarters or sixteenths are in a random order."""
    image, side = images[rng.integers(len(images)), ..., 0], int(rng.choice([7, 14]))
    count = SIZE // side
    tiles = image.reshape(count, side, count, side).swapaxes(1, 2).reshape(-1, side, side)
    tiles = tiles[rng.permutation(len(tiles))]
    return tiles.reshape(count, count, side, side).swapaxes(1, 2).reshape(SIZE, SIZE)


def combined(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return two small images beside or below each other."""
    half = SIZE // 2
    small = [
        images[index, ..., 0].reshape(half, 2, half, 2).mean(axis=(1, 3))
        for index in rng.integers(len(images), size=2)
    ]
    values, start = np.zeros((SIZE, SIZE), np.float32), SIZE // 4
    values[start : start + half] = np.concatenate(small, axis=1)
    return values.T if rng.random() < 0.5 else values
