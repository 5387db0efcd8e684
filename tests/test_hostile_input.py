"""Broken inputs, each of which has to be refused: one line, the right exit code, nothing on the disk changed.

One input of every cause is tried here; `python -m pytest --torture tests/test_hostile_input.py` tries them all.
"""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import pickle
import resource
import shutil
import socket
import zipfile
from typing import Callable, NamedTuple

import h5py
import keras
import numpy as np
import pytest

from tests import synthetic_data
import data
import evaluate_model
from fmnist import runs
import train_cnn

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


TRAIN = (train_cnn, "--val-size", "100", "--batch-size", "100")


class World(NamedTuple):
    """What every test gets a copy of."""

    root: object        # the folder of all others, where nothing may change
    data: object        # made data, which data.py takes for the official one
    finished: object    # a run
    unfinished: object  # a run that was broken off after its third epoch


class Case(NamedTuple):
    cause: str
    input: str
    spoil: Callable      # of the world
    command: Callable    # of the world: returns the script and its arguments
    word: str            # has to stand in the message
    code: int = 1


# Ways to spoil a file, whatever it holds.

def missing(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def cut_to_half(path):
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def cut_at_its_end(path):
    path.write_bytes(path.read_bytes()[:-2])


def zeros_from_the_middle_on(path):
    """What a crash leaves of a file whose length was written before its content."""
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:size // 2].ljust(size, b"\0"))


def first_half_lost(path):
    path.write_bytes(path.read_bytes()[path.stat().st_size // 2:])


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


ANY_FILE = (missing, empty, cut_to_half, zeros_from_the_middle_on, first_half_lost, a_web_page, random_bytes, a_pickle,
            a_folder, a_dangling_link, a_link_to_itself, a_pipe, a_socket, a_device)


class Payload:
    """Leaves a file behind if it is ever unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.path.join(os.environ["KERAS_HOME"], "harm"),)


# The data set's files.

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


def flipped(content, place):
    content = bytearray(content)
    content[place] ^= 1
    return bytes(content)


def header_of(content):
    return 4 + 4 * content[3]


def one_bit_of_an_image_or_label(content):
    return flipped(content, header_of(content) + 100)


def two_items_exchanged(content):
    start, size = header_of(content), 784 if content[3] == 3 else 1
    items = [content[place:place + size] for place in range(start, len(content), size)]
    other = next(number for number, item in enumerate(items) if item != items[0])
    items[0], items[other] = items[other], items[0]
    return content[:start] + b"".join(items)


def a_byte_too_many(content):
    return content + b"\0"


def an_item_too_few(content):
    return content[:-784 if content[3] == 3 else -1]


def nothing_but_a_header(content):
    return content[:header_of(content)]


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
    return content[:4] + b"".join(content[place:place + 4][::-1] for place in range(4, start, 4)) + content[start:]


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


def packed_as_zip(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data", gzip.decompress(content))
    return file.getvalue()


def the_next_file_s_content(path):
    names = list(data.FILES)
    other = names[(names.index(path.stem) + 1) % len(names)]
    path.write_bytes((path.parent / f"{other}.gz").read_bytes())


def the_other_part_s_content(path):
    names = list(data.FILES)
    other = names[(names.index(path.stem) + 2) % len(names)]
    path.write_bytes((path.parent / f"{other}.gz").read_bytes())


def another_name(path):
    path.rename(path.with_name(path.name.upper()))


def unzipped_and_cut(path):
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes())[:-1])
    path.unlink()


DATA_FILE = (
    *ANY_FILE, *map(unzipped, (
        one_bit_of_an_image_or_label, two_items_exchanged, a_byte_too_many, an_item_too_few, nothing_but_a_header,
        a_cut_header, type_float, another_number_of_dimensions, a_count_too_high, a_little_endian_header, inverted,
        zipped_twice, line_ends_converted, an_array_of_numpy, a_bomb)),
    *map(raw, (flipped_in_the_zip_stream, flipped_check_sum, cut_check_sum, rubbish_behind_the_end,
               only_the_gzip_header, packed_as_bz2, packed_as_xz, packed_as_zip)),
    the_next_file_s_content, the_other_part_s_content, another_name, unzipped_and_cut)


def data_cases():
    for number, spoil in enumerate(DATA_FILE):
        names = list(data.FILES)
        names = names[number % 4:] + names[:number % 4]  # so that the short table meets every file
        for name in names:
            yield Case(f"data file: {spoil.__name__}", name,
                       lambda world, spoil=spoil, name=name: spoil(world.data / f"{name}.gz"),
                       lambda world: (*TRAIN, "--data-dir", world.data), name)


# The text files of a run.

def text_is(text):
    def spoil(path):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return spoil


NO_CONFIG = {
    "null": "null", "a list": "[]", "a number": "3", "a text": '"config"', "cut off": '{"model": "drop',
    "two values": "{} {}", "a comment": "// {}\n{}", "single quotes": "{'model': 'gap_cnn'}",
    "UTF-16": '{"model": "gap_cnn"}'.encode("utf-16"), "Latin-1": b'{"model": "\xe4"}', "too deep": "[" * 100_000,
    "a number too long": '{"seed": ' + "9" * 5000 + "}", "no settings": "{}",
}


def evaluate_finished(world):
    return evaluate_model, world.finished


def resume_unfinished(world):
    return train_cnn, "--resume", world.unfinished


def run_file_cases(name, ways, commands):
    for cause, spoil in ways.items():
        for run, command in commands.items():
            yield Case(f"{name}: {cause}", run, lambda world, spoil=spoil, run=run: spoil(getattr(world, run) / name),
                       command, name.split("/")[-1])


def config_file_cases():
    ways = {spoil.__name__: spoil for spoil in ANY_FILE}
    ways |= {cause: text_is(text) for cause, text in NO_CONFIG.items()}
    yield from run_file_cases("config.json", ways, {"finished": evaluate_finished, "unfinished": resume_unfinished})


def settings_are(run, **changes):
    """Return a way to change settings; a value of `None` in a tuple of its own takes the setting away."""
    def spoil(world):
        path = getattr(world, run) / "config.json"
        config = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in config.items() if value != (None,)}))
    return spoil


INTEGERS = ("epochs", "batch_size", "patience", "val_size", "seed", "limit")
FLOATS = ("learning_rate", "ema_epochs", "dropout", "l2", "label_smoothing")
CHOICES = ("model", "schedule", "augment")
NAN, INFINITY = float("nan"), float("inf")


def setting_cases():
    def resume(cause, key, value):
        return Case(f"setting: {cause}", f"{key} of a run to resume", settings_are("unfinished", **{key: value}),
                    resume_unfinished, "config.json")

    def evaluate(cause, key, value):
        return Case(f"setting: {cause}", f"{key} of a run to evaluate", settings_are("finished", **{key: value}),
                    evaluate_finished, {"val_size": "val", "limit": "limit"}.get(key, key))

    for key in (*INTEGERS, *FLOATS, *CHOICES, "name", "data_dir", "runs_dir", "fingerprint"):
        yield resume("missing", key, (None,))
    for key in (*INTEGERS, *FLOATS, *CHOICES):
        for cause, value in (("a list", [3]), ("an object", {"a": 3}), ("a truth", True), ("a word", "many"),
                             ("an empty text", "")):
            yield resume(cause, key, value)
        if key not in ("dropout", "l2", "limit"):
            yield resume("null", key, None)
    for key in (*INTEGERS, *FLOATS):
        yield resume("negative", key, -1)
        yield resume("huge", key, 10**30 if key in INTEGERS else INFINITY)
        yield resume("not a number", key, NAN)
    for key in INTEGERS:
        yield resume("a fraction", key, 100.5)
    yield resume("an unknown one", "mixup", 0.2)._replace(word="mixup")
    yield resume("a newer format", "format", 2)
    yield resume("a name that leads elsewhere", "name", "../up")
    yield resume("another network", "model", "gap_cnn")._replace(word="another network")
    yield resume("other data", "fingerprint", "0" * 64)._replace(word="other data")
    yield resume("data that is gone", "data_dir", "/nowhere")._replace(word="/nowhere")
    yield resume("data in a place of impossible name", "data_dir", "a\0b\nc")._replace(word="a\0b c")

    for key in evaluate_model.SETTINGS:
        yield evaluate("missing", key, (None,))
        yield evaluate("a list", key, [3])
        yield evaluate("an object", key, {"a": 3})
    for key in ("patience", "seed", "val_size", "limit"):
        yield evaluate("a word", key, "many")
        yield evaluate("not a number", key, NAN)
        yield evaluate("a fraction", key, 100.5)
    for key in ("seed", "val_size", "limit"):
        yield evaluate("negative", key, -1)
        yield evaluate("huge", key, 10**30)
    yield evaluate("a newer format", "format", 2)
    yield evaluate("other data", "fingerprint", "0" * 64)._replace(word="other data")


# The history.

def history_is(change):
    """change: of the lines, the header first, in lists of cells."""
    def spoil(path):
        lines = change([line.split(",") for line in path.read_text().splitlines()])
        path.write_text("".join(",".join(cells) + "\n" for cells in lines))
    return spoil


def cell(line, column, value):
    def change(lines):
        lines[line][runs.HISTORY.index(column)] = value
        return lines
    return history_is(change)


HISTORY_WAYS = {
    "only a header": history_is(lambda lines: lines[:1]),
    "no header": history_is(lambda lines: lines[1:]),
    "a line cut off": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "a column missing": history_is(lambda lines: [line[:3] + line[4:] for line in lines]),
    "a column of another name": history_is(lambda lines: [["epochs", *lines[0][1:]], *lines[1:]]),
    "semicolons": lambda path: path.write_text(path.read_text().replace(",", ";")),
    "decimal commas": lambda path: path.write_text(path.read_text().replace(".", ",")),
    "a word": cell(1, "loss", "low"), "an empty cell": cell(1, "val_loss", ""),
    "no losses": history_is(lambda lines: [lines[0], *([*line[:3], "nan", *line[4:]] for line in lines[1:])]),
    "epochs out of order": history_is(lambda lines: [lines[0], *lines[:0:-1]]),
    "an epoch twice": history_is(lambda lines: [*lines, lines[-1]]),
    "an epoch lost": history_is(lambda lines: [lines[0], *lines[2:]]),
    "half an epoch": cell(1, "epoch", "1.5"),
    "an epoch too high to count": cell(1, "epoch", "1e400"),
    "an accuracy above one": cell(1, "val_accuracy", "93.1"),
    "an accuracy that is no number": cell(1, "accuracy", "nan"),
    "endless seconds": cell(1, "seconds", "inf"),
    "a negative loss": cell(1, "loss", "-1"), "a loss beyond all floats": cell(1, "val_loss", "1e308"),
    "a negative rate": cell(1, "learning_rate", "-0.1"),
    "a NUL": lambda path: path.write_bytes(path.read_bytes().replace(b".", b"\0", 1)),
    "Latin-1": lambda path: path.write_bytes(path.read_bytes().replace(b".", b"\xe4", 1)),
    "an endless cell": cell(1, "loss", '"' + "1" * 200_000 + '"'),
}


def history_cases():
    ways = {spoil.__name__: spoil for spoil in ANY_FILE} | HISTORY_WAYS
    yield from run_file_cases("history.csv", ways, {"finished": evaluate_finished})


# The state that --resume goes on with.

def state_is(change):
    """change: of a dict of arrays."""
    def spoil(path):
        with np.load(path) as state:
            arrays = change(dict(state))
        np.savez(path, **arrays)
    return spoil


def history_in_state(change):
    return state_is(lambda arrays: arrays | {"history": json.dumps(change(json.loads(str(arrays["history"]))))})


def without(arrays, *names):
    return {name: array for name, array in arrays.items() if name not in names}


STATE_WAYS = {
    "the last array missing": state_is(lambda arrays: without(arrays, f"arr_{len(arrays) - 2}")),
    "an array missing": state_is(lambda arrays: without(arrays, "arr_3")),
    "an array too many": state_is(lambda arrays: arrays | {f"arr_{len(arrays) - 1}": np.zeros(3, np.float32)}),
    "no array at all": state_is(lambda arrays: {"history": arrays["history"]}),
    "an array of another shape": state_is(lambda arrays: arrays | {"arr_0": arrays["arr_0"][..., :1]}),
    "an array of another type": state_is(lambda arrays: arrays | {"arr_0": arrays["arr_0"].astype(np.float64)}),
    "an array of objects": state_is(lambda arrays: arrays | {"arr_0": np.array([Payload()], object)}),
    "history missing": state_is(lambda arrays: without(arrays, "history")),
    "history is no JSON": state_is(lambda arrays: arrays | {"history": "{"}),
    "history is a number": history_in_state(lambda rows: 3),
    "history too deep": state_is(lambda arrays: arrays | {"history": "[" * 100_000}),
    "history of objects": state_is(lambda arrays: arrays | {"history": np.array([Payload()], object)}),
    "a row is no object": history_in_state(lambda rows: [3]),
    "a row lacks a value": history_in_state(lambda rows: [{"epoch": 1}]),
    "a value is a list": history_in_state(lambda rows: [rows[0] | {"loss": [1]}]),
    "a value is null": history_in_state(lambda rows: [rows[0] | {"loss": None}]),
    "an epoch lost": history_in_state(lambda rows: rows[1:]),
    "one array, not an archive": lambda path: path.write_bytes(npy_bytes(np.zeros(3))),
    "a bit flipped": lambda path: path.write_bytes(flipped(path.read_bytes(), path.stat().st_size // 2)),
}


def npy_bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def state_cases():
    ways = {spoil.__name__: spoil for spoil in ANY_FILE} | {"cut_at_its_end": cut_at_its_end} | STATE_WAYS
    yield from run_file_cases("checkpoint/state.npz", ways, {"unfinished": resume_unfinished})


# The model.

def archive_is(**changes):
    """changes: a function of `config` (config.json, parsed), of `weights` (an h5py.File), or what either is instead;
    None for nothing."""
    names = {"config": "config.json", "weights": "model.weights.h5"}

    def spoil(path):
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        for word, change in changes.items():
            name = names[word]
            if change is None:
                del contents[name]
            elif isinstance(change, bytes):
                contents[name] = change
            elif word == "weights":
                file = io.BytesIO(contents[name])
                with h5py.File(file, "r+") as weights:
                    change(weights)
                contents[name] = file.getvalue()
            else:
                contents[name] = json.dumps(change(json.loads(contents[name]))).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    return spoil


def first_layer(change):
    """Return a way to change the first layer's entry in the archive's config.json, behind the input."""
    def of_config(config):
        config["config"]["layers"][1] = change(config["config"]["layers"][1])
        return config
    return archive_is(config=of_config)


def weights_are(change):
    """change: of the first kernel's values."""
    def of_file(weights):
        group = weights["layers/conv2d/vars"]
        values = change(group["0"][:])
        del group["0"]
        group["0"] = values
    return archive_is(weights=of_file)


def lose_a_layer(weights):
    del weights["layers/conv2d"]


def model_is(make):
    """make: returns a Keras model."""
    def spoil(path):
        make().save(path)
    return spoil


def small(*layers, shape=(28, 28, 1)):
    return lambda: keras.Sequential([keras.Input(shape), *layers])


def harm(_):
    """The config of an object whose making would leave a folder behind."""
    return {"module": "os", "class_name": "mkdir", "registered_name": None,
            "config": {"path": os.path.join(os.environ["KERAS_HOME"], "harm")}}


def a_lambda():
    folder = os.path.join(os.environ["KERAS_HOME"], "harm")
    model = small(keras.layers.Lambda(lambda images: __import__("os").mkdir(folder) or images),
                  keras.layers.Flatten(), keras.layers.Dense(10, "softmax"))()
    os.rmdir(folder)  # the making of the model has called it
    return model


def fails_on_images():
    """Looks bright pixels up in a table of two rows."""
    return small(keras.layers.Rescaling(1000), keras.layers.Flatten(), keras.layers.Embedding(2, 10),
                 keras.layers.GlobalAveragePooling1D(), keras.layers.Softmax())()


def object_is(class_name, module):
    return archive_is(config=lambda config: {
        "module": module, "class_name": class_name, "config": {}, "registered_name": None})


def hdf5_file(path):
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["weights"] = np.zeros(3)
    os.replace(path.with_suffix(".h5"), path)


def two_outputs():
    images = keras.Input((28, 28, 1))
    flat = keras.layers.Flatten()(images)
    return keras.Model(images, [keras.layers.Dense(10)(flat), keras.layers.Dense(10)(flat)])


MODEL_WAYS = {
    "cut_at_its_end": cut_at_its_end,
    "a bit flipped": lambda path: path.write_bytes(flipped(path.read_bytes(), path.stat().st_size // 2)),
    "HDF5": hdf5_file,
    "a zip of something else": lambda path: path.write_bytes(packed_as_zip(gzip.compress(b"content"))),
    "no config.json": archive_is(config=None), "no weights": archive_is(weights=None),
    "an empty config.json": archive_is(config=b""), "a config.json that is a list": archive_is(config=b"[]"),
    "a config.json of nothing": archive_is(config=b"{}"),
    "no layers": archive_is(config=lambda config: config | {"config": {}}),
    "weights that are no HDF5": archive_is(weights=b"weights"), "empty weights": archive_is(weights=b""),
    "a layer's weights missing": archive_is(weights=lose_a_layer),
    "weights of another shape": weights_are(lambda values: values[..., :3]),
    "weights of text": weights_are(lambda values: "weights"),
    "weights that are no numbers": weights_are(lambda values: values * NAN),
    "weights that are infinite": weights_are(lambda values: values * INFINITY),
    "a layer of unknown class": first_layer(lambda layer: layer | {"class_name": "Conv5D"}),
    "a layer with an unknown setting": first_layer(
        lambda layer: layer | {"config": layer["config"] | {"mixup": 0.2}}),
    "a layer with a setting of the wrong type": first_layer(
        lambda layer: layer | {"config": layer["config"] | {"filters": "many"}}),
    "a layer that is a text": first_layer(lambda layer: "Conv2D"),
    "a layer of another module": first_layer(lambda layer: layer | {"module": "antigravity", "registered_name": None}),
    "a function of another module as a layer": first_layer(harm),
    "a function of another module as a setting": first_layer(
        lambda layer: layer | {"config": layer["config"] | {"activation": harm(None)}}),
    "a Lambda layer": model_is(a_lambda),
    "a TensorFlow graph as a layer": first_layer(lambda layer: {
        "module": "keras.layers", "class_name": "TFSMLayer", "registered_name": None,
        "config": {"filepath": "/tmp", "call_endpoint": "serve", "name": "graph"}}),
    "a PyTorch module as a layer": first_layer(lambda layer: {
        "module": "keras.layers", "class_name": "TorchModuleWrapper", "registered_name": None,
        "config": {"module": "cGlja2xl", "name": "torch"}}),
    "an optimizer of another module": archive_is(config=lambda config: config | {
        "compile_config": {"optimizer": harm(None), "loss": "mse"}}),
    "other images": model_is(small(keras.layers.Flatten(), keras.layers.Dense(10, "softmax"), shape=(32, 32, 3))),
    "other classes": model_is(small(keras.layers.Flatten(), keras.layers.Dense(7, "softmax"))),
    "no fixed shape": model_is(small(keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10, "softmax"),
                                     shape=(None, None, 1))),
    "two outputs": model_is(two_outputs),
    "a loss": object_is("MeanSquaredError", "keras.losses"), "an optimizer": object_is("Adam", "keras.optimizers"),
    "a layer": object_is("Softmax", "keras.layers"),
    "one that fails on images": model_is(fails_on_images),
    "no probabilities": model_is(small(keras.layers.Flatten(), keras.layers.Dense(10))),
}


def model_cases():
    ways = {spoil.__name__: spoil for spoil in ANY_FILE} | MODEL_WAYS
    yield from run_file_cases("model.keras", ways, {"finished": evaluate_finished})


# Options.

def unspoilt(world):
    pass


IN_WORDS = {"--val-size": "val", "--limit": "limit"}  # how some options stand in a message


def option_cases():
    def refused(cause, *arguments, script=train_cnn, word=None):
        command = (*TRAIN, *arguments) if script is train_cnn else (script, *arguments)
        return Case(f"option: {cause}", " ".join(map(repr, arguments)), unspoilt, lambda world: command,
                    word or IN_WORDS.get(arguments[0], arguments[0].split("=")[0]), 2)

    positive = ("--epochs", "--batch-size", "--learning-rate", "--val-size", "--limit")
    integers = ("--epochs", "--batch-size", "--patience", "--seed", "--limit")
    numbers = (*integers, "--learning-rate", "--val-size", "--ema-epochs", "--dropout", "--l2", "--label-smoothing")
    words = {"NaN": "nan", "infinite": "inf", "endless": "1e400", "a word": "many", "empty": "", "a space": " ",
             "hexadecimal": "0x10", "a decimal comma": "0,5", "a sum": "1+1", "a fullwidth minus": "－1",
             "unicode": "½", "a list": "[1]"}
    for flag in numbers:
        yield refused("negative", f"{flag}=-1")
        yield refused("without its value", flag)
        for cause, value in words.items():
            yield refused(cause, flag, value)
    for flag in positive:
        yield refused("zero", flag, "0")
    for flag in integers:
        yield refused("a fraction", flag, "1.5")
        yield refused("huge", flag, "1" + 30 * "0") if flag != "--limit" else refused("huge", flag, "60001")
    for flag, value in (("--dropout", "1"), ("--label-smoothing", "1"), ("--ema-epochs", "1000"), ("--val-size", "1e9"),
                        ("--val-size", str(synthetic_data.TRAIN)), ("--batch-size", str(synthetic_data.TRAIN))):
        yield refused("just too much", flag, value)
    yield refused("digits without end", "--epochs", 5000 * "9")
    for flag in ("--model", "--schedule", "--augment"):
        for cause, value in (("no choice of it", "unknown"), ("in capitals", "NONE"), ("empty", ""),
                             ("a choice cut short", "con")):
            yield refused(cause, flag, value)
    for cause, value in (("empty", ""), ("a path", "a/b"), ("the folder above", ".."), ("the folder itself", "."),
                         ("hidden", ".a"), ("unicode", "größe"), ("a space", "a b"), ("a line", "a\nb")):
        yield refused(f"name: {cause}", "--name", value)
    for flag in ("--data-dir", "--runs-dir", "--resume"):
        yield refused("empty", flag, "")
    for flag in ("--data-dir", "--runs-dir", "--output-dir"):
        yield refused("empty", flag, "", script=evaluate_model)
    yield refused("empty", "", script=evaluate_model, word="RUN")
    yield refused("cut short", "--epoch", "3")
    yield refused("unknown", "--gpu")
    yield refused("unknown", "--gpu", script=evaluate_model)
    yield refused("one too many", "runs/a\nb", word="runs/a b")
    yield refused("one too many", "runs/a", "runs/b", script=evaluate_model, word="runs/b")
    for arguments in (("--epochs", "3"), ("--seed", "1"), ("--model", "gap_cnn"), ("--name", "other")):
        yield refused("settings beside --resume", "--resume", "run", *arguments)


# Folders.

def a_file_at(place):
    def spoil(world):
        (world.root / place).write_text("mine")
    return spoil


def a_link_at(place, target):
    def spoil(world):
        (world.root / place).symlink_to(target)
    return spoil


def a_folder_at(place):
    def spoil(world):
        (world.root / place).mkdir()
    return spoil


def a_file_instead(name):
    def spoil(world):
        path = world.finished / name if name == "figures" else world.unfinished / name
        shutil.rmtree(path, ignore_errors=True)
        path.write_text("mine")
    return spoil


def folder_cases():
    for name, command, word in (("figures", evaluate_finished, "figures"),
                                ("checkpoint", resume_unfinished, "state.npz")):
        yield Case("folder: a file in its place", name, a_file_instead(name), command, word)
    for name in ("report.html", "metrics.json", "predictions.npz", "figures/curves.png"):
        yield Case("folder: in the place of a file", name, lambda world, name=name: (world.finished / name).mkdir(
            parents=True), evaluate_finished, name)
    long, loop = "x" * 300, a_link_at("x", "x")
    places = {
        "missing": ("x", unspoilt), "a file": ("x", a_file_at("x")), "below a file": ("x/y", a_file_at("x")),
        "a dangling link": ("x", a_link_at("x", "nowhere")), "a link to itself": ("x", loop),
        "a name too long": (long, unspoilt), "without the files": ("x", a_folder_at("x")),
        "of a user that is none": ("~nobody-has-this-name", unspoilt),
    }
    commands = {
        "data to train": lambda path, world: (*TRAIN, "--data-dir", path),
        "data to evaluate": lambda path, world: (evaluate_model, world.finished, "--data-dir", path),
        "a run": lambda path, world: (evaluate_model, path),
        "a run to resume": lambda path, world: (train_cnn, "--resume", path),
        "runs, to find one": lambda path, world: (evaluate_model, "--runs-dir", path),
        "runs, to resume one": lambda path, world: (train_cnn, "--resume", "--runs-dir", path),
    }
    for cause, (place, spoil) in places.items():
        for input, command in commands.items():
            yield Case(f"folder: {cause}", input, spoil,
                       lambda world, place=place, command=command: command(
                           place if place.startswith("~") else world.root / place, world), place.split("/")[0])
    writing = {
        "runs, to make one": lambda path, world: (*TRAIN, "--runs-dir", path),
        "results": lambda path, world: (evaluate_model, world.finished, "--output-dir", path),
    }
    for cause in ("a file", "below a file", "a link to itself", "a name too long"):
        place, spoil = places[cause]
        for input, command in writing.items():
            yield Case(f"folder to write: {cause}", input, spoil,
                       lambda world, place=place, command=command: command(world.root / place, world), place[0])
    for cause, spoil in (("a run", unspoilt), ("a file", a_file_at("runs/taken")),
                         ("an empty folder", a_folder_at("runs/taken")),
                         ("a dangling link", a_link_at("runs/taken", "nowhere"))):
        yield Case(f"name that is taken by {cause}", "", spoil, lambda world, cause=cause: (
            *TRAIN, "--runs-dir", world.root / "runs", "--name", "finished" if cause == "a run" else "taken"),
            "is there already")


def permission_cases():
    """As a user who may read and write nothing that the mode does not allow everyone."""
    def mode(name, bits):
        return lambda world: os.chmod(world.root / name, bits)

    # From the world's own folder, as those above it may be closed to that user.
    def evaluate(world):
        return evaluate_model, "runs/finished"

    def resume(world):
        return train_cnn, "--resume", "runs/unfinished"

    def train(world):
        return (*TRAIN, "--runs-dir", "runs")

    for cause, bits in (("unreadable file", 0o000), ("write-only file", 0o222)):
        for name, command in (("runs/finished/config.json", evaluate), ("runs/finished/history.csv", evaluate),
                              ("runs/finished/model.keras", evaluate), ("runs/unfinished/config.json", resume),
                              ("runs/unfinished/checkpoint/state.npz", resume),
                              *((f"data/{name}.gz", train) for name in data.FILES)):
            yield Case(f"permission: {cause}", name, mode(name, bits), command, name.split("/")[-1])
    for cause, bits in (("closed folder", 0o000), ("folder to list only", 0o444)):
        for name, command in (("runs/finished", evaluate), ("runs/unfinished", resume), ("data", train),
                              ("runs/unfinished/checkpoint", resume)):
            yield Case(f"permission: {cause}", name, mode(name, bits), command, name.split("/")[-1])
    for name, command in (("runs", train), ("runs/finished", evaluate), ("runs/unfinished", resume)):
        yield Case("permission: read-only folder", name, mode(name, 0o555), command, name)


CASES = [*data_cases(), *config_file_cases(), *setting_cases(), *history_cases(), *state_cases(), *model_cases(),
         *option_cases(), *folder_cases(), *permission_cases()]


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        first_of_each = {case.cause: case for case in reversed(CASES)}.values()
        cases = CASES if metafunc.config.getoption("--torture") else first_of_each
        metafunc.parametrize("case", cases, ids=[f"{case.cause} | {case.input}"[:80] for case in cases])


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """One world, trained once, that the tests copy."""
    root = tmp_path_factory.mktemp("template")
    options = ["--val-size", "100", "--batch-size", "100", "--runs-dir", str(root / "runs"), "--model", "lenet_l2",
               "--epochs", "3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "FILES", synthetic_data.write_folder(root / "data", synthetic_data.made_arrays()))
        patch.setenv("FASHION_MNIST_DIR", str(root / "data"))
        with patch.context() as inner:
            inner.setattr(runs, "finish", lambda run: None)
            assert train_cnn.main([*options, "--name", "unfinished"]) == 0
        shutil.copytree(root / "runs/unfinished", root / "runs/finished")
        runs.finish(root / "runs/finished")
        settings_are("finished", name="finished")(World(root, None, root / "runs/finished", None))
        settings_are("unfinished", epochs=5)(World(root, None, None, root / "runs/unfinished"))
        return root, data.FILES


@pytest.fixture
def world(template, no_data, tmp_path, monkeypatch):
    folder, files = template
    root = shutil.copytree(folder, tmp_path / "world")
    root.chmod(0o755)
    monkeypatch.setattr(data, "FILES", files)
    monkeypatch.setenv("FASHION_MNIST_DIR", "data")
    (root / "keras").mkdir()
    monkeypatch.setenv("KERAS_HOME", str(root / "keras"))
    monkeypatch.chdir(root)
    return World(root, root / "data", root / "runs/finished", root / "runs/unfinished")


@contextlib.contextmanager
def unprivileged():
    """Let root be nobody meanwhile: for root no mode counts."""
    "".encode("cp437")  # zipfile's, which Python would import when it may be closed to that user
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def everything(root):
    """Return all that is on the disk: the content of files, the targets of links, the names of the rest."""
    found = {}
    for folder, folders, files in os.walk(root):
        for path in (os.path.join(folder, name) for name in [*folders, *files]):
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path) and os.access(path, os.R_OK):
                with open(path, "rb") as stream:
                    found[path] = stream.read()
            else:
                found[path] = None
    return found


def test_it_is_refused(case, world, capfd, monkeypatch):
    case.spoil(world)
    before = everything(world.root)
    script, *arguments = case.command(world)
    monkeypatch.setattr("sys.argv", [f"{script.__name__}.py"])
    capfd.readouterr()
    with unprivileged() if case.cause.startswith("permission") else contextlib.nullcontext():
        try:
            code = script.main([*map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
    message = capfd.readouterr().err
    assert code == case.code
    assert message.count("\n") == 1 and message.startswith(f"{script.__name__}.py: ") and case.word in message
    assert everything(world.root) == before


def test_the_world_itself_is_sound(world):
    assert evaluate_model.main([str(world.finished)]) == 0
    assert train_cnn.main(["--resume", str(world.unfinished)]) == 0
    assert len(runs.load_history(world.unfinished)) == 5


def test_there_are_many_causes():
    assert len({case.cause for case in CASES}) >= 60 and len(CASES) >= 300


@pytest.mark.parametrize("script, room", [(evaluate_model, 10_000), (train_cnn, 0), (train_cnn, 10_000),
                                          (train_cnn, 400_000), (train_cnn, 1_000_000)])
def test_a_write_that_stops_in_its_middle_leaves_all_as_it_was(world, capsys, script, room):
    """By a limit on the size of files, as a full disk would stop it; capfd would have to write to a file itself."""
    arguments = [world.finished] if script is evaluate_model else [*TRAIN[1:], "--runs-dir", world.root / "runs"]
    (world.finished / "metrics.json").write_text("an older result")
    before, limits = everything(world.root), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        code = script.main([*map(str, arguments)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = capsys.readouterr().err
    assert code == 1 and "File too large" in message and message.count("\n") == 1
    assert everything(world.root) == before
