import gzip
import os
import tempfile
import threading

import numpy as np
import pytest
import tensorflow as tf

import data
from fmnist import source
from tests.synthetic_data import TEST, TRAIN, idx_bytes, made_arrays, write_folder

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def rows(images):
    return {image.tobytes() for image in images}


def test_images_are_float32_in_0_to_1_and_nothing_else_is_done_to_them(made_data):
    dataset = data.load(val_size=100)
    images, labels = made_arrays()[2:]
    assert dataset.test.images.dtype == np.float32
    assert dataset.test.images.shape == (TEST, 28, 28, 1)
    np.testing.assert_array_equal(dataset.test.images[..., 0], images.astype(np.float32) / 255)
    np.testing.assert_array_equal(dataset.test.labels, labels)
    brightest = max(part.images.max() for part in (dataset.train, dataset.validation))
    assert brightest == made_arrays()[0].max() / np.float32(255)


def test_the_split_is_disjoint_complete_and_keeps_labels_with_their_images(made_data):
    dataset = data.load(val_size=100)
    images, labels = made_arrays()[:2]
    assert len(dataset.train.images) == TRAIN - 100 and len(dataset.validation.images) == 100
    assert not rows(dataset.train.images) & rows(dataset.validation.images)
    label_of = {
        (image.astype(np.float32) / 255).tobytes(): label
        for image, label in zip(images, labels, strict=True)
    }
    for part in (dataset.train, dataset.validation):
        assert [label_of[image.tobytes()] for image in part.images] == part.labels.tolist()


def test_the_split_is_stratified_and_follows_the_seed(made_data):
    first, again, other = (data.load(val_size=100, seed=seed) for seed in (1, 1, 2))
    assert np.bincount(first.validation.labels).tolist() == [10] * 10
    np.testing.assert_array_equal(first.validation.images, again.validation.images)
    assert rows(first.validation.images) != rows(other.validation.images)


@pytest.mark.parametrize(
    "val_size, limit, expected",
    [
        (100, None, (500, 100)),
        (0.1, None, (540, 60)),
        (100, 300, (250, 50)),
        (0.5, 120, (60, 60)),
        (10, 20, (10, 10)),
    ],
)
def test_sizes(made_data, val_size, limit, expected):
    assert source.split_sizes(val_size, limit) == expected
    dataset = data.load(val_size=val_size, limit=limit)
    assert (len(dataset.train.labels), len(dataset.validation.labels)) == expected
    assert len(dataset.test.labels) == TEST


@pytest.mark.parametrize(
    "val_size, limit",
    [
        (0, None),
        (9, None),
        (-5, None),
        (0.001, None),
        (TRAIN, None),
        (0.999, None),
        (float("nan"), None),
        (100, 0),
        (100, 19),
        (100, TRAIN + 1),
    ],
)
def test_impossible_sizes_are_refused(made_data, val_size, limit):
    with pytest.raises(source.DataError):
        data.load(val_size=val_size, limit=limit)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-2000])


def cut_off_unzipped(path):
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes())[:-1])
    path.unlink()


def too_long(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"\0"))


def altered_by_one(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[5000] ^= 1
    path.write_bytes(gzip.compress(content))


def bit_flipped_in_the_archive(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swapped(path):
    path.write_bytes((path.parent / "t10k-images-idx3-ubyte.gz").read_bytes())


def wrong_magic(path):
    path.write_bytes(gzip.compress(b"\0\0\x0d\x03" + gzip.decompress(path.read_bytes())[4:]))


def wrong_shape(path):
    path.write_bytes(gzip.compress(idx_bytes(np.zeros((TRAIN, 14, 56), np.uint8))))


def a_web_page(path):
    path.write_bytes(b"<html>not found</html>")


def empty(path):
    path.write_bytes(b"")


def missing(path):
    path.unlink()


def a_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    cut_off: "cut off",
    cut_off_unzipped: "cut off",
    too_long: "too long",
    altered_by_one: "altered",
    bit_flipped_in_the_archive: "damaged",
    swapped: "content of t10k-images",
    wrong_magic: "magic number",
    wrong_shape: "shape",
    a_web_page: "magic number",
    empty: "magic number",
    missing: "missing",
    a_folder: "cannot be read",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_wrong_file_is_named_in_one_line_and_left_as_it_is(made_data, damage):
    damage(made_data / f"{IMAGES}.gz")
    before = {path: path.read_bytes() for path in made_data.iterdir() if path.is_file()}
    with pytest.raises(source.DataError, match=DAMAGES[damage]) as caught:
        data.load(val_size=100)
    assert IMAGES in str(caught.value) and "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in made_data.iterdir() if path.is_file()}


def test_unzipped_files_are_read_too(made_data):
    for name in source.FILES:
        zipped = made_data / f"{name}.gz"
        (made_data / name).write_bytes(gzip.decompress(zipped.read_bytes()))
        zipped.unlink()
    assert len(data.load(val_size=100).test.labels) == TEST


def test_a_named_folder_comes_first_and_must_be_right(made_folder, monkeypatch, tmp_path):
    cache = tmp_path / "keras/datasets/fashion-mnist"
    write_folder(cache, made_arrays())
    assert data.load(made_folder, 100).source == str(made_folder)
    for folder in (tmp_path / "nowhere", tmp_path, made_folder / f"{LABELS}.gz"):
        with pytest.raises(source.DataError, match=str(folder)):
            data.load(folder, 100)
        monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
        with pytest.raises(source.DataError, match=str(folder)):
            data.load(val_size=100)
    assert data.load(made_folder, 100).source == str(made_folder)


def test_a_wrong_cache_is_warned_about_and_passed_over(made_folder, tmp_path, capsys):
    cache = tmp_path / "keras/datasets/fashion-mnist"
    write_folder(cache, made_arrays())
    assert data.load(val_size=100).source == str(cache)
    cut_off(cache / f"{IMAGES}.gz")
    write_folder(source.DEBIAN_FOLDER, made_arrays())
    assert data.load(val_size=100).source == str(source.DEBIAN_FOLDER)
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1 and f"{IMAGES}.gz" in warning


def test_files_are_downloaded_checked_and_kept(made_folder, monkeypatch, tmp_path):
    bad = tmp_path / "bad mirror"
    write_folder(bad, made_arrays())
    altered_by_one(bad / f"{IMAGES}.gz")
    monkeypatch.setattr(
        source, "MIRRORS", (*source.MIRRORS, bad.as_uri() + "/", made_folder.as_uri() + "/")
    )
    cache = tmp_path / "keras/datasets/fashion-mnist"
    write_folder(cache, made_arrays())
    cut_off(cache / f"{IMAGES}.gz")
    spoilt = (cache / f"{IMAGES}.gz").read_bytes()

    assert "official mirrors" in data.load(val_size=100).source
    assert data.load(val_size=100).source == str(cache)
    (set_aside,) = cache.glob(f"{IMAGES}.gz.wrong*")
    assert set_aside.read_bytes() == spoilt
    assert not list(cache.glob(".unfinished-*"))


def test_a_download_that_is_killed_leaves_nothing_to_trust(made_folder, monkeypatch, tmp_path):
    import keras

    def killed(name, *arguments, cache_dir, **others):
        (cache_dir / name).write_bytes((made_folder / name).read_bytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.utils, "get_file", killed)
    with pytest.raises(KeyboardInterrupt):
        data.load(val_size=100)
    assert not list((tmp_path / "keras/datasets/fashion-mnist").iterdir())


def test_two_downloads_at_once_do_not_spoil_each_other(made_folder, tmp_path):
    cache = tmp_path / "keras/datasets/fashion-mnist"
    cache.mkdir(parents=True)
    (cache / f"{IMAGES}.gz").write_bytes(b"spoilt")
    together = threading.Barrier(2, timeout=60)  # or one that fails would leave the other waiting
    problems = []

    def fetch(private):
        for name in source.FILES:
            (private / f"{name}.gz").write_bytes((made_folder / f"{name}.gz").read_bytes())
        together.wait()
        return private

    def work():
        try:
            source._fetch_into(cache, fetch)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert data.load(val_size=100).source == str(cache)
    others = [path for path in cache.iterdir() if path.suffix != ".gz"]
    assert b"spoilt" in [path.read_bytes() for path in others]
    assert all(".gz.wrong-" in path.name for path in others)


@pytest.fixture
def fake_apt(made_folder, monkeypatch, tmp_path):
    """apt-get that has a package only once its lists were refreshed, and a dpkg-deb to match."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    scripts = {
        "apt-get": f'echo "$@" >> "{tmp_path}/calls"\n'
        'case "$*" in\n'
        "*update) touch refreshed;;\n"
        '*download*) [ -e refreshed ] || { echo "E: no such package" >&2; exit 100; }\n'
        "  touch dataset-fashion-mnist_1_all.deb;;\n"
        "esac",
        "dpkg-deb": f'mkdir -p "$3{source.DEBIAN_FOLDER.parent}" && '
        f'cp -r "{made_folder}" "$3{source.DEBIAN_FOLDER}"',
    }
    for name, body in scripts.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path / "calls"


def test_the_debian_package_is_the_last_resort(fake_apt):
    assert "Debian" in data.load(val_size=100).source
    calls = fake_apt.read_text().splitlines()
    assert [call.split()[-1] if call.endswith("update") else "download" for call in calls] == [
        "download",
        "update",
        "download",
    ]
    assert "Debian" not in data.load(val_size=100).source


def test_a_read_only_home_and_an_unreadable_cache_are_no_obstacle(
    made_folder, monkeypatch, tmp_path
):
    """Told by os.access and os.path.exists alone, so that it can be tested as root."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(source, "MIRRORS", (made_folder.as_uri() + "/",))
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: "elsewhere" in str(path) and access(path, mode)
    )
    for _ in range(2):
        assert (
            str(tmp_path / "elsewhere/.keras/datasets/fashion-mnist")
            in data.load(val_size=100).source
        )


def test_a_home_of_nobody_is_one_line(made_folder):
    with pytest.raises(source.DataError, match="~nobody-has-this-name"):
        data.load("~nobody-has-this-name/data", 100)


def test_without_any_source_one_line_says_what_to_do(made_folder, monkeypatch, tmp_path):
    with pytest.raises(source.DataError, match="--data-dir") as caught:
        data.load(val_size=100)
    assert "\n" not in str(caught.value)


def test_batches_hold_every_image_once_in_an_order_that_follows_the_seed(made_data):
    part = data.load(val_size=100).train
    stream = tf.Variable([0, 0])
    batches = data.batches(part, 64, shuffle=stream)

    def epoch():
        images, labels = map(np.concatenate, zip(*batches.as_numpy_iterator(), strict=True))
        assert rows(images) == rows(part.images) and len(images) == len(part.images)
        label_of = dict(zip((image.tobytes() for image in part.images), part.labels, strict=True))
        assert [label_of[image.tobytes()] for image in images] == labels.argmax(axis=1).tolist()
        return images.tobytes()

    first, again = epoch(), epoch()
    stream.assign([0, 1])
    other = epoch()
    stream.assign([0, 0])
    assert first == again == epoch() != other
    assert len(batches) == len(list(batches)) == 8


def test_batches_without_shuffling_keep_the_order(made_data):
    part = data.load(val_size=100).validation
    images = np.concatenate([images for images, _ in data.batches(part, 32).as_numpy_iterator()])
    np.testing.assert_array_equal(images, part.images)


def test_every_batch_is_augmented_with_a_seed_of_its_own_and_every_image_has_its_turns(made_data):
    seeds, turns = [], []

    def watch(images, seed, numbers):
        tf.py_function(lambda value: seeds.append(tuple(value.numpy())), [seed], [])
        tf.py_function(lambda value: turns.extend(value.numpy()), [numbers], [])
        return images + 1

    part = data.load(val_size=100).train
    stream = tf.Variable([3, 0])
    batches = data.batches(part, 125, shuffle=stream, augment=watch)
    assert min(images.min() for images, _ in batches.as_numpy_iterator()) >= 1
    stream.assign([3, 1])
    list(batches)
    assert len(seeds) == len(set(seeds)) == 8
    assert sorted(turns[:500]) == list(range(500)) and sorted(turns[500:]) == list(range(1, 501))


@pytest.mark.slow
def test_the_real_set(real_data):
    dataset = data.load(real_data, seed=1)
    assert dataset.train.images.shape == (55000, 28, 28, 1)
    assert np.bincount(dataset.validation.labels).tolist() == [500] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    every = np.concatenate([dataset.train.images, dataset.validation.images])
    assert every.mean() == pytest.approx(0.2860, abs=1e-4)  # known of this data set
    assert every.std() == pytest.approx(0.3530, abs=1e-4)
    assert dataset.fingerprint == "d1fd84a877f3b78fa9a171b3de73f93e7b6f69ed94bada3feae9d96821401f5c"
