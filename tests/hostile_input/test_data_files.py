"""Hostile inputs: the files of the data set."""

import bz2
import gzip
import io
import lzma

import numpy as np

from fmnist import source
from tests.hostile_input.cases import TRAIN, Case
from tests.hostile_input.files import FILE_CORRUPTIONS, repacked_as_zip, with_flipped_bit
from tests.hostile_input.rejection import test_the_input_is_rejected  # noqa: F401


def change_content(change):
    """Return a function that changes the decompressed content; the gzip file stays valid."""

    def corrupt(path):
        path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes())), 1))

    corrupt.__name__ = change.__name__
    return corrupt


def change_gzip_file(change):
    """Return a function that changes the compressed content."""

    def corrupt(path):
        path.write_bytes(change(path.read_bytes()))

    corrupt.__name__ = change.__name__
    return corrupt


def header_size(content):
    """Return the size of the IDX header in bytes."""
    return 4 + 4 * content[3]


def one_bit_of_an_image_or_label_flipped(content):
    return with_flipped_bit(content, header_size(content) + 100)


def two_items_swapped(content):
    start, size = header_size(content), 784 if content[3] == 3 else 1
    items = [content[offset : offset + size] for offset in range(start, len(content), size)]
    other = next(index for index, item in enumerate(items) if item != items[0])
    items[0], items[other] = items[other], items[0]
    return content[:start] + b"".join(items)


def one_additional_byte(content):
    return content + b"\0"


def last_item_missing(content):
    return content[: -784 if content[3] == 3 else -1]


def only_the_header(content):
    return content[: header_size(content)]


def truncated_header(content):
    return content[:6]


def data_type_float(content):
    return content[:2] + b"\x0d" + content[3:]


def wrong_number_of_dimensions(content):
    return content[:3] + bytes([content[3] % 3 + 1]) + content[4:]


def count_too_high(content):
    return with_flipped_bit(content, 7)


def little_endian_header(content):
    start = header_size(content)
    return (
        content[:4]
        + b"".join(content[offset : offset + 4][::-1] for offset in range(4, start, 4))
        + content[start:]
    )


def inverted_values(content):
    start = header_size(content)
    return content[:start] + bytes(255 - value for value in content[start:])


def compressed_twice(content):
    return gzip.compress(content)


def converted_line_ends(content):
    return content.replace(b"\n", b"\r\n") + b"\r\n"


def numpy_file(content):
    file = io.BytesIO()
    np.save(file, np.frombuffer(content, np.uint8))
    return file.getvalue()


def decompression_bomb(content):
    return content + bytes(50_000_000)


def flipped_bit_in_the_gzip_stream(content):
    return with_flipped_bit(content, len(content) // 2)


def flipped_bit_in_the_checksum(content):
    return with_flipped_bit(content, len(content) - 6)


def truncated_checksum(content):
    return content[:-4]


def garbage_after_the_end(content):
    return content + b"garbage"


def only_the_gzip_header(content):
    return content[:10]


def repacked_as_bz2(content):
    return bz2.compress(gzip.decompress(content))


def repacked_as_xz(content):
    return lzma.compress(gzip.decompress(content))


def content_of_the_next_file(path):
    names = list(source.FILES)
    other = names[(names.index(path.stem) + 1) % len(names)]
    path.write_bytes((path.parent / f"{other}.gz").read_bytes())


def content_of_the_other_part(path):
    names = list(source.FILES)
    other = names[(names.index(path.stem) + 2) % len(names)]
    path.write_bytes((path.parent / f"{other}.gz").read_bytes())


def wrong_file_name(path):
    path.rename(path.with_name(path.name.upper()))


def truncated_without_gzip(path):
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes())[:-1])
    path.unlink()


DATA_FILE_CORRUPTIONS = (
    *FILE_CORRUPTIONS,
    *map(
        change_content,
        (
            one_bit_of_an_image_or_label_flipped,
            two_items_swapped,
            one_additional_byte,
            last_item_missing,
            only_the_header,
            truncated_header,
            data_type_float,
            wrong_number_of_dimensions,
            count_too_high,
            little_endian_header,
            inverted_values,
            compressed_twice,
            converted_line_ends,
            numpy_file,
            decompression_bomb,
        ),
    ),
    *map(
        change_gzip_file,
        (
            flipped_bit_in_the_gzip_stream,
            flipped_bit_in_the_checksum,
            truncated_checksum,
            garbage_after_the_end,
            only_the_gzip_header,
            repacked_as_bz2,
            repacked_as_xz,
            repacked_as_zip,
        ),
    ),
    content_of_the_next_file,
    content_of_the_other_part,
    wrong_file_name,
    truncated_without_gzip,
)


def data_cases():
    for index, corrupt in enumerate(DATA_FILE_CORRUPTIONS):
        names = list(source.FILES)
        # Rotate the files. Without --all-inputs, only the first file of every cause is tested.
        names = names[index % 4 :] + names[: index % 4]
        for name in names:
            yield Case(
                f"data file: {corrupt.__name__}",
                name,
                lambda environment, corrupt=corrupt, name=name: corrupt(
                    environment.data / f"{name}.gz"
                ),
                lambda environment: (*TRAIN, "--data-dir", environment.data),
                name,
            )


CASES = [*data_cases()]
