"""The files of the data set, spoilt."""

import bz2
import gzip
import io
import lzma

import numpy as np

from fmnist import source
from tests.hostile_input.cases import TRAIN, Case
from tests.hostile_input.files import ANY_FILE, flipped, packed_as_zip
from tests.hostile_input.refusal import test_it_is_refused  # noqa: F401


def unzipped(change):
    """Return a way to change what is inside the .gz, which stays a sound one."""

    def spoil(path):
        path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes())), 1))

    spoil.__name__ = change.__name__
    return spoil


def raw(change):
    def spoil(path):
        path.write_bytes(change(path.read_bytes()))

    spoil.__name__ = change.__name__
    return spoil


def header_of(content):
    return 4 + 4 * content[3]


def one_bit_of_an_image_or_label(content):
    return flipped(content, header_of(content) + 100)


def two_items_exchanged(content):
    start, size = header_of(content), 784 if content[3] == 3 else 1
    items = [content[place : place + size] for place in range(start, len(content), size)]
    other = next(number for number, item in enumerate(items) if item != items[0])
    items[0], items[other] = items[other], items[0]
    return content[:start] + b"".join(items)


def a_byte_too_many(content):
    return content + b"\0"


def an_item_too_few(content):
    return content[: -784 if content[3] == 3 else -1]


def nothing_but_a_header(content):
    return content[: header_of(content)]


def a_cut_header(content):
    return content[:6]


def type_float(content):
    return content[:2] + b"\x0d" + content[3:]


def another_number_of_dimensions(content):
    return content[:3] + bytes([content[3] % 3 + 1]) + content[4:]


def a_count_too_high(content):
    return flipped(content, 7)


def a_little_endian_header(content):
    start = header_of(content)
    return (
        content[:4]
        + b"".join(content[place : place + 4][::-1] for place in range(4, start, 4))
        + content[start:]
    )


def inverted(content):
    start = header_of(content)
    return content[:start] + bytes(255 - value for value in content[start:])


def zipped_twice(content):
    return gzip.compress(content)


def line_ends_converted(content):
    return content.replace(b"\n", b"\r\n") + b"\r\n"


def an_array_of_numpy(content):
    file = io.BytesIO()
    np.save(file, np.frombuffer(content, np.uint8))
    return file.getvalue()


def a_bomb(content):
    return content + bytes(50_000_000)


def flipped_in_the_zip_stream(content):
    return flipped(content, len(content) // 2)


def flipped_check_sum(content):
    return flipped(content, len(content) - 6)


def cut_check_sum(content):
    return content[:-4]


def rubbish_behind_the_end(content):
    return content + b"rubbish"


def only_the_gzip_header(content):
    return content[:10]


def packed_as_bz2(content):
    return bz2.compress(gzip.decompress(content))


def packed_as_xz(content):
    return lzma.compress(gzip.decompress(content))


def the_next_file_s_content(path):
    names = list(source.FILES)
    other = names[(names.index(path.stem) + 1) % len(names)]
    path.write_bytes((path.parent / f"{other}.gz").read_bytes())


def the_other_part_s_content(path):
    names = list(source.FILES)
    other = names[(names.index(path.stem) + 2) % len(names)]
    path.write_bytes((path.parent / f"{other}.gz").read_bytes())


def another_name(path):
    path.rename(path.with_name(path.name.upper()))


def unzipped_and_cut(path):
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes())[:-1])
    path.unlink()


DATA_FILE = (
    *ANY_FILE,
    *map(
        unzipped,
        (
            one_bit_of_an_image_or_label,
            two_items_exchanged,
            a_byte_too_many,
            an_item_too_few,
            nothing_but_a_header,
            a_cut_header,
            type_float,
            another_number_of_dimensions,
            a_count_too_high,
            a_little_endian_header,
            inverted,
            zipped_twice,
            line_ends_converted,
            an_array_of_numpy,
            a_bomb,
        ),
    ),
    *map(
        raw,
        (
            flipped_in_the_zip_stream,
            flipped_check_sum,
            cut_check_sum,
            rubbish_behind_the_end,
            only_the_gzip_header,
            packed_as_bz2,
            packed_as_xz,
            packed_as_zip,
        ),
    ),
    the_next_file_s_content,
    the_other_part_s_content,
    another_name,
    unzipped_and_cut,
)


def data_cases():
    for number, spoil in enumerate(DATA_FILE):
        names = list(source.FILES)
        # So that the short table meets every file.
        names = names[number % 4 :] + names[: number % 4]
        for name in names:
            yield Case(
                f"data file: {spoil.__name__}",
                name,
                lambda world, spoil=spoil, name=name: spoil(world.data / f"{name}.gz"),
                lambda world: (*TRAIN, "--data-dir", world.data),
                name,
            )


CASES = [*data_cases()]
