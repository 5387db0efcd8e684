"""Synthetic photographs: items pasted on backgrounds, with their masks and labels.

An item comes from a photograph whose mask is reliable, or from Fashion-MNIST, in random colours. A
background is plain, or a piece of a photograph beside its item. Pasting items at random positions:
Dwibedi, Misra and Hebert, "Cut, Paste and Learn", https://arxiv.org/abs/1708.01642

Common arguments:
    rng: random generator.
    pixels: (height, width, 3) in [0, 1].
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from fmnist.inference.segmentation import SIDE
from fmnist.source import CLASS_NAMES

ITEM_SIDE = 96  # longest edge of an item, in pixels
ENLARGED = 84  # height and width of an enlarged image of Fashion-MNIST
MARGIN = 3  # distance between an item and a piece of its background, in pixels
LEAST_STRIP = 9  # shortest edge of a piece of a background, in pixels
TEXTURE = 40  # a smaller piece is mirrored until its edges are as long
PLAIN_TONES = (1, 0.95, 0.8, 0.5, 0.1, 0.02)
SKIN = np.array([0.85, 0.65, 0.52])
Y, X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
TOPS = [CLASS_NAMES.index(name) for name in ("T-shirt/top", "Pullover", "Coat", "Shirt", "Dress")]
TROUSER, DRESS = CLASS_NAMES.index("Trouser"), CLASS_NAMES.index("Dress")
GARMENTS = [*TOPS, TROUSER]
SHOES = [CLASS_NAMES.index(name) for name in ("Sandal", "Sneaker", "Ankle boot")]


class Material(NamedTuple):
    """What composites are made of.

    Attributes:
        items: items of photographs by class, as RGBA pictures.
        images: images of Fashion-MNIST by class, (N, 28, 28) uint8.
        strips: pieces of backgrounds, as RGB pictures.
    """

    items: dict[int, list[Image.Image]]
    images: dict[int, np.ndarray]
    strips: list[Image.Image]


def by_class(images: np.ndarray, labels: np.ndarray) -> dict[int, np.ndarray]:
    """Return images of Fashion-MNIST by their labels, see Material."""
    return {label: images[labels == label] for label in range(len(CLASS_NAMES))}


def cut_out(picture: np.ndarray, mask: np.ndarray) -> Image.Image:
    """Return the item of a picture (height, width, 3) uint8 as an RGBA picture."""
    rows, columns = ndimage.find_objects(mask.astype(np.uint8))[0]
    alpha = 255 * mask[rows, columns].astype(np.uint8)
    item = Image.fromarray(np.dstack([picture[rows, columns], alpha]))
    item.thumbnail((ITEM_SIDE, ITEM_SIDE))
    return item


def strips_beside(picture: np.ndarray, mask: np.ndarray) -> list[Image.Image]:
    """Return the pieces of a picture above, below, left and right of its item."""
    rows, columns = ndimage.find_objects(mask.astype(np.uint8))[0]
    pieces = (
        picture[: max(0, rows.start - MARGIN)],
        picture[rows.stop + MARGIN :],
        picture[:, : max(0, columns.start - MARGIN)],
        picture[:, columns.stop + MARGIN :],
    )
    return [Image.fromarray(piece) for piece in pieces if min(piece.shape[:2]) >= LEAST_STRIP]


def composite(material: Material, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
    """Return a picture (SIDE, SIDE, 3) and the mask of its item, both uint8, and its label.

    One picture in 25 shows no item; its mask is empty.
    """
    label = int(rng.integers(len(CLASS_NAMES)))
    if label in GARMENTS and rng.random() < 0.25:
        pixels, item = worn(material, label, rng)
    else:
        pixels = background(material.strips, rng)
        if rng.random() < 0.04:
            item = np.zeros((SIDE, SIDE, 4), np.float32)
        elif label in SHOES and rng.random() < 0.35:
            item = placed(pair(random_item(material, label, rng), rng), rng)
        else:
            item = placed(random_item(material, label, rng), rng)
        if rng.random() < 0.15:
            other = random_item(material, int(rng.choice(TOPS)), rng)
            pixels = with_neighbour(pixels, placed(other, rng), rng)
    colours, alpha = item[..., :3], item[..., 3:]
    if rng.random() < 0.5:
        colours = recoloured(colours, rng)
    if rng.random() < 0.15:  # nearly white
        colours = 1 - (1 - colours) * rng.uniform(0.1, 0.5)
    if rng.random() < 0.5:  # a shadow
        offset = tuple(rng.integers(-3, 4, 2))
        shadow = ndimage.gaussian_filter(
            np.roll(alpha, offset, (0, 1)), (rng.uniform(0.5, 3),) * 2 + (0,)
        )
        pixels = pixels * (1 - rng.uniform(0, 0.5) * shadow)
    pixels = lit((1 - alpha) * pixels + alpha * colours, rng, 0.1)
    pixels = pixels + rng.normal(0, rng.uniform(0, 0.03), pixels.shape)
    return in_bytes(pixels), in_bytes(alpha[..., 0]), label


def view(
    picture: np.ndarray, mask: np.ndarray, rng: np.random.Generator, side: int = SIDE
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random view of a photograph (side, side, 3) and of its mask, both uint8."""
    whole = Image.fromarray(np.dstack([picture, 255 * mask.astype(np.uint8)]))
    width, height = (max(1, int(edge * rng.uniform(0.75, 1))) for edge in whole.size)
    left, top = rng.integers(whole.width - width + 1), rng.integers(whole.height - height + 1)
    part = whole.crop((left, top, left + width, top + height))
    values = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR))
    if rng.random() < 0.5:
        values = values[:, ::-1]
    if rng.random() < 0.2:
        values = np.rot90(values, rng.integers(1, 4))
    colours = values[..., :3]
    if rng.random() < 0.5:
        colours = in_bytes(recoloured(colours / np.float32(255), rng))
    return colours, values[..., 3]


def random_item(material: Material, label: int, rng: np.random.Generator) -> Image.Image:
    """Return an item of a class: of a photograph if there are any, or of Fashion-MNIST."""
    items = material.items.get(label)
    if items and rng.random() < 0.6:
        return items[rng.integers(len(items))]
    images = material.images[label]
    return painted(images[rng.integers(len(images))], rng)


def painted(image: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Return an image of Fashion-MNIST (28, 28) uint8 enlarged, in random colours, as RGBA."""
    size = (ENLARGED, ENLARGED)
    enlarged = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    shade = np.asarray(enlarged, np.float32)[..., None] / 255
    outline = Image.fromarray(255 * (image > 12).astype(np.uint8))
    outline = outline.resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1.2))
    alpha = np.clip(np.asarray(outline, np.float32) / 64 - 1.5, 0, 1)
    if rng.random() < 0.4:
        alpha = np.maximum(alpha, ndimage.binary_fill_holes(alpha > 0.5))
    dark, light = rng.uniform(0, 1, (2, 3))
    if rng.random() < 0.4:  # grey
        dark[:], light[:] = dark[0], light[0]
    colours = dark + (light - dark) * shade
    if rng.random() < 0.3:
        y, x = np.mgrid[0 : 1 : ENLARGED * 1j, 0 : 1 : ENLARGED * 1j]
        angle = rng.uniform(0, np.pi)
        phase = 2 * np.pi * rng.uniform(2, 14) * (np.cos(angle) * x + np.sin(angle) * y)
        stripes = (np.sin(phase) > rng.uniform(-0.7, 0.7))[..., None]
        colours = np.where(stripes, colours, colours * rng.uniform(0.3, 1.4, 3))
    return Image.fromarray(in_bytes(np.dstack([colours, alpha])))


def pair(shoe: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return two copies of a shoe beside each other, turned, as people photograph them."""
    angle = float(rng.choice([0, 90, -90, 60, 120]))
    first = shoe.rotate(angle + rng.normal(0, 15), expand=True)
    second = first if rng.random() < 0.4 else first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = first.size
    right, down = width * rng.uniform(0.1, 0.5), height * rng.uniform(0.2, 0.8)
    if angle:
        right, down = width * rng.uniform(0.35, 1.05), height * rng.normal(0, 0.08)
    right, down = int(right), int(down)
    both = Image.new("RGBA", (width + right, height + abs(down)))
    both.alpha_composite(first, (0, max(0, -down)))
    both.alpha_composite(second, (right, max(0, down)))
    return both


def placed(item: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Return an item (SIDE, SIDE, 4) in [0, 1], with random position, size, angle and shear."""
    angle = rng.normal(0, 0.2)
    if rng.random() < 0.12:
        angle += rng.choice([-1, 1]) * np.pi / 2
    scale, stretch = rng.uniform(0.45, 1.15) * SIDE / max(item.size), np.exp(rng.normal(0, 0.18))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.eye(2) + rng.normal(0, 0.06, (2, 2))
    forwards = shear @ rotation @ np.diag([scale * stretch, scale / stretch])
    if rng.random() < 0.5:
        forwards = forwards @ np.diag([-1, 1])
    backwards = np.linalg.inv(forwards)
    centre = SIDE / 2 + rng.normal(0, 0.06 * SIDE, 2)
    offset = np.array(item.size) / 2 - backwards @ centre
    coefficients = np.column_stack([backwards, offset]).ravel()
    result = item.transform(
        (SIDE, SIDE), Image.Transform.AFFINE, tuple(coefficients), Image.Resampling.BILINEAR
    )
    return np.asarray(result, np.float32) / 255


def worn(material: Material, label: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a simple person (SIDE, SIDE, 3) in [0, 1] and the garment to paste, (SIDE, SIDE, 4).

    The person wears a top or a dress above legs or trousers, or trousers below a top.
    """
    item = random_item(material, label, rng)
    height = int(SIDE * rng.uniform(0.55, 0.8))
    width = min(int(item.width * height / item.height), SIDE)
    centre = SIDE / 2 + rng.normal(0, 2)
    top = int(SIDE * rng.uniform(0.08, 0.25))
    if label == TROUSER:
        top = int(SIDE - height * rng.uniform(0.92, 1.05))
    garment = Image.new("RGBA", (SIDE, SIDE))
    garment.paste(item.resize((max(4, width), height)), (int(centre - width / 2), top))

    if rng.random() < 0.3:
        pixels = background(material.strips, rng)
    else:
        pixels = np.full((SIDE, SIDE, 3), rng.uniform(0.75, 1))
    skin = SKIN * rng.uniform(0.35, 1.15) + rng.normal(0, 0.04, 3)

    def paint(mask: np.ndarray, colour: np.ndarray) -> None:
        nonlocal pixels
        pixels = np.where(mask[..., None], colour, pixels)

    def ellipse(x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
        return ((X - x) / half_width) ** 2 + ((Y - y) / half_height) ** 2 < 1

    if label == TROUSER:
        other = np.abs(X - centre) < width * rng.uniform(0.4, 0.6)
        paint(other & (top + rng.uniform(1, 6) > Y), rng.uniform(0, 1, 3))
        if rng.random() < 0.7:
            for side in (-1, 1):
                shoe = ellipse(
                    centre + side * 0.3 * width, top + height, 0.16 * width, 0.1 * width + 1
                )
                paint(shoe, rng.uniform(0, 1) * rng.uniform(0, 1, 3))
    else:
        colour, half = rng.uniform(0.3, 1.2) * rng.uniform(0, 1, 3), width * rng.uniform(0.22, 0.45)
        if label == DRESS:
            colour, half = skin, 0.8 * half
        hem, gap = top + height * rng.uniform(0.8, 0.95), 3 * rng.uniform(0, 0.25) * half
        distance = np.abs(X - centre)
        paint((hem < Y) & (distance < half) & (distance >= gap * (Y - hem) / SIDE), colour)
        radius = width * rng.uniform(0.12, 0.2)
        head = top - radius * rng.uniform(0.2, 0.9)
        paint((distance < 0.12 * width) & (top + 4 > Y), skin)
        if rng.random() < 0.6:
            paint(ellipse(centre, head, radius, 1.3 * radius), skin)
            hair = ellipse(centre, head - 0.5 * radius, 1.15 * radius, 1.1 * radius)
            paint(hair & (head > Y), rng.uniform(0, 0.5, 3))
        for side in (-1, 1):
            shoulder, hand = top + height * rng.uniform((0.25, 0.8), (0.5, 1.1))
            slope = rng.uniform(-0.1, 0.15) * (Y - shoulder)
            arm = centre + side * (width * rng.uniform(0.36, 0.5) + slope)
            thin = np.abs(X - arm) < width * rng.uniform(0.05, 0.09)
            paint(thin & (shoulder < Y) & (hand > Y), skin)
    softened = Image.fromarray(in_bytes(pixels)).filter(ImageFilter.GaussianBlur(0.6))
    return np.asarray(softened, np.float32) / 255, np.asarray(garment, np.float32) / 255


def with_neighbour(pixels: np.ndarray, item: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return pixels with a part of another item at their edge, which is background."""
    shift = rng.integers(SIDE * 2 // 5, SIDE * 3 // 5, 2) * rng.choice([-1, 1], 2)
    if rng.random() < 0.5:
        shift[rng.integers(2)] //= 4
    moved = ndimage.shift(item, (*shift, 0), order=0)
    alpha = moved[..., 3:]
    return (1 - alpha) * pixels + alpha * recoloured(moved[..., :3], rng)


def background(strips: Sequence[Image.Image], rng: np.random.Generator) -> np.ndarray:
    """Return a background (SIDE, SIDE, 3) in [0, 1]: plain, or one or two pieces of photographs."""
    kind = rng.random()
    if kind < 0.3:  # as in a shop
        return np.full((SIDE, SIDE, 3), rng.uniform(0.9, 1))
    if kind < 0.45 or not strips:
        tone = rng.choice(PLAIN_TONES) + rng.normal(0, 0.03, 3)
        colour = rng.uniform(0, 1, 3) if rng.random() < 0.4 else tone
        return lit(np.broadcast_to(colour, (SIDE, SIDE, 3)), rng, 0.08).clip(0, 1)
    pixels = texture(strips, rng)
    if rng.random() < 0.25:
        angle = rng.uniform(0, 2 * np.pi)
        position = (np.cos(angle) * X + np.sin(angle) * Y) / (SIDE / 2)
        pixels = np.where(
            (position > position.mean() + rng.uniform(-0.6, 0.6))[..., None],
            pixels,
            texture(strips, rng),
        )
    return recoloured(pixels, rng) if rng.random() < 0.5 else pixels


def texture(strips: Sequence[Image.Image], rng: np.random.Generator) -> np.ndarray:
    """Return a random part of a piece of a background, (SIDE, SIDE, 3) in [0, 1]."""
    strip = strips[rng.integers(len(strips))]
    if rng.random() < 0.5:
        strip = strip.transpose(Image.Transpose.ROTATE_90)
    width, height = (max(6, int(edge * rng.uniform(0.6, 1))) for edge in strip.size)
    left, top = rng.integers(strip.width - width + 1), rng.integers(strip.height - height + 1)
    part = np.asarray(strip.crop((left, top, left + width, top + height)))
    # A narrow piece is mirrored, because stretching would change the scale of its pattern.
    missing = [(0, max(0, TEXTURE - edge)) for edge in part.shape[:2]]
    part = Image.fromarray(np.pad(part, (*missing, (0, 0)), "symmetric"))
    return np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32) / 255


def recoloured(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return pixels in other colours and with another contrast."""
    if rng.random() < 0.3:
        pixels = pixels[..., rng.permutation(3)]
    if rng.random() < 0.25:
        pixels = 1 - pixels
    pixels = pixels ** np.exp(rng.normal(0, 0.35))
    return (pixels * np.exp(rng.normal(0, 0.12, 3)) + rng.normal(0, 0.05, 3)).clip(0, 1)


def lit(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Return pixels with light from a random side."""
    x, y = 2 * X / (SIDE - 1) - 1, 2 * Y / (SIDE - 1) - 1
    from_x, from_y = rng.normal(0, strength, 2)
    return pixels * (1 + from_x * x + from_y * y)[..., None]


def in_bytes(values: np.ndarray) -> np.ndarray:
    """Return values in [0, 1] as uint8."""
    return (255 * values.clip(0, 1)).round().astype(np.uint8)
