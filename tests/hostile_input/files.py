"""Functions that corrupt a file of any format."""

import gzip
import io
import os
import pickle
import socket
import zipfile

import numpy as np


def missing(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def truncated_to_half(path):
    # Remove a final line break, because a history truncated between two lines would be valid.
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2].rstrip(b"\n"))


def truncated_at_the_end(path):
    path.write_bytes(path.read_bytes()[:-2])


def zeros_in_the_second_half(path):
    """Corrupt a file as a crash does if its length was written before its content."""
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2].ljust(size, b"\0"))


def first_half_missing(path):
    path.write_bytes(path.read_bytes()[path.stat().st_size // 2 :])


def html_page(path):
    path.write_bytes(b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n")


def random_bytes(path):
    path.write_bytes(np.random.default_rng(0).bytes(1000))


def pickle_file(path):
    path.write_bytes(pickle.dumps(Payload()))


def folder_instead_of_file(path):
    path.unlink()
    path.mkdir()


def dangling_link(path):
    path.unlink()
    path.symlink_to("nowhere")


def link_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


def named_pipe(path):
    path.unlink()
    os.mkfifo(path)


def unix_socket(path):
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        working_directory = os.getcwd()
        os.chdir(path.parent)  # the path of a socket must be short
        try:
            listener.bind(path.name)
        finally:
            os.chdir(working_directory)


def device_file(path):
    path.unlink()
    path.symlink_to("/dev/zero")


FILE_CORRUPTIONS = (
    missing,
    empty,
    truncated_to_half,
    zeros_in_the_second_half,
    first_half_missing,
    html_page,
    random_bytes,
    pickle_file,
    folder_instead_of_file,
    dangling_link,
    link_to_itself,
    named_pipe,
    unix_socket,
    device_file,
)


class Payload:
    """An object that creates a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.path.join(os.environ["KERAS_HOME"], "malicious"),)


def with_flipped_bit(content, index):
    """Return the content with one bit flipped in the byte at this index."""
    content = bytearray(content)
    content[index] ^= 1
    return bytes(content)


def repacked_as_zip(content):
    """Return gzip content as a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data", gzip.decompress(content))
    return file.getvalue()
