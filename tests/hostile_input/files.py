"""Ways to spoil a file, whatever it holds."""

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


def cut_to_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_at_its_end(path):
    path.write_bytes(path.read_bytes()[:-2])


def zeros_from_the_middle_on(path):
    """What a crash leaves of a file whose length was written before its content."""
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2].ljust(size, b"\0"))


def first_half_lost(path):
    path.write_bytes(path.read_bytes()[path.stat().st_size // 2 :])


def a_web_page(path):
    path.write_bytes(b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n")


def random_bytes(path):
    path.write_bytes(np.random.default_rng(0).bytes(1000))


def a_pickle(path):
    path.write_bytes(pickle.dumps(Payload()))


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_dangling_link(path):
    path.unlink()
    path.symlink_to("nowhere")


def a_link_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def a_socket(path):
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(path.parent)  # as a socket's name must be short
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


def a_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


ANY_FILE = (
    missing,
    empty,
    cut_to_half,
    zeros_from_the_middle_on,
    first_half_lost,
    a_web_page,
    random_bytes,
    a_pickle,
    a_folder,
    a_dangling_link,
    a_link_to_itself,
    a_pipe,
    a_socket,
    a_device,
)


class Payload:
    """Leaves a file behind if it is ever unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.path.join(os.environ["KERAS_HOME"], "harm"),)


def flipped(content, place):
    content = bytearray(content)
    content[place] ^= 1
    return bytes(content)


def packed_as_zip(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data", gzip.decompress(content))
    return file.getvalue()
