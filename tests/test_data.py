import gzip
import os
import tempfile
import threading

import numpy as np
import pytest
import tensorflow as tf
from sklearn.model_selection import train_test_split

import data
from fmnist import source
from tests.synthetic_data import TEST, TRAIN, idx_bytes, make_arrays, write_dataset

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def rows(images):
    return {image.tobytes() for image in images}


def test_images_are_scaled_to_float32_between_0_and_1(synthetic_dataset):
    dataset = data.load(val_size=100)
    images, labels = make_arrays()[2:]
    assert dataset.test.images.dtype == np.float32
    assert dataset.test.images.shape == (TEST, 28, 28, 1)
    np.testing.assert_array_equal(dataset.test.images[..., 0], images.astype(np.float32) / 255)
    np.testing.assert_array_equal(dataset.test.labels, labels)
    brightest = max(part.images.max() for part in (dataset.train, dataset.validation))
    assert brightest == make_arrays()[0].max() / np.float32(255)


def test_the_split_is_disjoint_and_complete_and_keeps_the_labels(synthetic_dataset):
    dataset = data.load(val_size=100)
    images, labels = make_arrays()[:2]
    assert len(dataset.train.images) == TRAIN - 100 and len(dataset.validation.images) == 100
    assert not rows(dataset.train.images) & rows(dataset.validation.images)
    label_of = {
        (image.astype(np.float32) / 255).tobytes(): label
        for image, label in zip(images, labels, strict=True)
    }
    for part in (dataset.train, dataset.validation):
        assert [label_of[image.tobytes()] for image in part.images] == part.labels.tolist()


def test_the_split_is_stratified_and_depends_on_the_seed(synthetic_dataset):
    first, repeated, other = (data.load(val_size=100, seed=seed) for seed in (1, 1, 2))
    assert np.bincount(first.validation.labels).tolist() == [10] * 10
    np.testing.assert_array_equal(first.validation.images, repeated.validation.images)
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
def test_val_size_and_limit_determine_the_sizes(synthetic_dataset, val_size, limit, expected):
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
def test_impossible_sizes_are_rejected(synthetic_dataset, val_size, limit):
    with pytest.raises(source.DataError):
        data.load(val_size=val_size, limit=limit)


def test_without_a_fold_the_split_is_that_of_train_test_split(synthetic_dataset):
    labels = make_arrays()[1]
    expected = train_test_split(
        np.arange(TRAIN), train_size=250, test_size=50, stratify=labels, random_state=3
    )
    for indices, others in zip(data.split_indices(labels, 100, 300, 3), expected, strict=True):
        np.testing.assert_array_equal(indices, others)


def test_the_folds_of_a_seed_partition_the_images_and_are_stratified(synthetic_dataset):
    labels = make_arrays()[1]
    splits = [data.split_indices(labels, 0.2, seed=1, fold=fold) for fold in range(5)]
    assert sorted(np.concatenate([validation for _, validation in splits])) == [*range(TRAIN)]
    for train, validation in splits:
        assert sorted([*train, *validation]) == [*range(TRAIN)]
        assert np.bincount(labels[validation]).tolist() == [12] * 10
        # The first images are a random sample.
        assert np.bincount(labels[train[:120]]).min() > 4 and train[:120].max() > 500
    other_seed = data.split_indices(labels, 0.2, seed=2, fold=0)[1]
    assert {*other_seed} != {*splits[0][1]}


def test_a_fold_is_the_validation_set_of_load_and_of_a_run(synthetic_dataset):
    images, labels = make_arrays()[:2]
    train, validation = data.split_indices(labels, 100, seed=1, fold=5)
    config = {"data_dir": None, "val_size": 100, "limit": None, "seed": 1, "fold": 5}
    for dataset in (data.load(val_size=100, seed=1, fold=5), data.load_for_run(config)):
        np.testing.assert_array_equal(
            dataset.validation.images[..., 0], images[validation] / np.float32(255)
        )
        np.testing.assert_array_equal(dataset.train.labels, labels[train])
    del config["fold"]
    np.testing.assert_array_equal(
        data.load_for_run(config).train.labels, data.load(val_size=100, seed=1).train.labels
    )


@pytest.mark.parametrize(
    "settings, word",
    [
        ({"fold": 6}, "--fold must be at least 0 and below 6"),
        ({"fold": -1}, "--fold"),
        ({"fold": 0, "limit": 300}, "--limit"),
        ({"fold": 0, "val_size": 110}, "--val-size"),
        ({"fold": 0, "val_size": 0.7}, "--val-size"),
    ],
)
def test_impossible_folds_are_rejected(synthetic_dataset, settings, word):
    with pytest.raises(source.DataError, match=word) as caught:
        data.load(**{"val_size": 100} | settings)
    assert "--fold" in str(caught.value) and "\n" not in str(caught.value)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-2000])


def truncated_without_gzip(path):
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes())[:-1])
    path.unlink()


def one_byte_too_long(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"\0"))


def one_bit_changed(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[5000] ^= 1
    path.write_bytes(gzip.compress(content))


def bit_flipped_in_the_gzip_file(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def content_of_another_file(path):
    path.write_bytes((path.parent / "t10k-images-idx3-ubyte.gz").read_bytes())


def wrong_magic(path):
    path.write_bytes(gzip.compress(b"\0\0\x0d\x03" + gzip.decompress(path.read_bytes())[4:]))


def wrong_shape(path):
    path.write_bytes(gzip.compress(idx_bytes(np.zeros((TRAIN, 14, 56), np.uint8))))


def html_page(path):
    path.write_bytes(b"<html>not found</html>")


def empty_file(path):
    path.write_bytes(b"")


def missing_file(path):
    path.unlink()


def folder_instead_of_file(path):
    path.unlink()
    path.mkdir()


CORRUPTIONS = {
    truncated: "truncated",
    truncated_without_gzip: "truncated",
    one_byte_too_long: "too long",
    one_bit_changed: "SHA-256",
    bit_flipped_in_the_gzip_file: "corrupt",
    content_of_another_file: "content of t10k-images",
    wrong_magic: "magic number",
    wrong_shape: "shape",
    html_page: "magic number",
    empty_file: "magic number",
    missing_file: "missing",
    folder_instead_of_file: "cannot be read",
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda corrupt: corrupt.__name__)
def test_a_corrupt_file_is_reported_in_one_line_and_not_changed(synthetic_dataset, corrupt):
    corrupt(synthetic_dataset / f"{IMAGES}.gz")
    before = {path: path.read_bytes() for path in synthetic_dataset.iterdir() if path.is_file()}
    with pytest.raises(source.DataError, match=CORRUPTIONS[corrupt]) as caught:
        data.load(val_size=100)
    assert IMAGES in str(caught.value) and "\n" not in str(caught.value)
    assert before == {
        path: path.read_bytes() for path in synthetic_dataset.iterdir() if path.is_file()
    }


def test_files_without_gzip_are_read(synthetic_dataset):
    for name in source.FILES:
        compressed = synthetic_dataset / f"{name}.gz"
        (synthetic_dataset / name).write_bytes(gzip.decompress(compressed.read_bytes()))
        compressed.unlink()
    assert len(data.load(val_size=100).test.labels) == TEST


def test_a_given_folder_takes_precedence_and_must_be_valid(
    synthetic_data_dir, monkeypatch, tmp_path
):
    cache = tmp_path / "keras/datasets/fashion-mnist"
    write_dataset(cache, make_arrays())
    assert data.load(synthetic_data_dir, 100).source == str(synthetic_data_dir)
    for folder in (tmp_path / "nowhere", tmp_path, synthetic_data_dir / f"{LABELS}.gz"):
        with pytest.raises(source.DataError, match=str(folder)):
            data.load(folder, 100)
        monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
        with pytest.raises(source.DataError, match=str(folder)):
            data.load(val_size=100)
    assert data.load(synthetic_data_dir, 100).source == str(synthetic_data_dir)


def test_a_corrupt_cache_causes_a_warning_and_is_skipped(synthetic_data_dir, tmp_path, capsys):
    cache = tmp_path / "keras/datasets/fashion-mnist"
    write_dataset(cache, make_arrays())
    assert data.load(val_size=100).source == str(cache)
    truncated(cache / f"{IMAGES}.gz")
    write_dataset(source.DEBIAN_FOLDER, make_arrays())
    assert data.load(val_size=100).source == str(source.DEBIAN_FOLDER)
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1 and f"{IMAGES}.gz" in warning


def test_downloaded_files_are_verified_and_cached(synthetic_data_dir, monkeypatch, tmp_path):
    bad = tmp_path / "bad mirror"
    write_dataset(bad, make_arrays())
    one_bit_changed(bad / f"{IMAGES}.gz")
    monkeypatch.setattr(
        source, "MIRRORS", (*source.MIRRORS, bad.as_uri() + "/", synthetic_data_dir.as_uri() + "/")
    )
    cache = tmp_path / "keras/datasets/fashion-mnist"
    write_dataset(cache, make_arrays())
    truncated(cache / f"{IMAGES}.gz")
    corrupt_content = (cache / f"{IMAGES}.gz").read_bytes()

    assert "official mirrors" in data.load(val_size=100).source
    assert data.load(val_size=100).source == str(cache)
    renamed_files = list(cache.glob(f"{IMAGES}.gz.wrong*"))
    assert [path.read_bytes() for path in renamed_files] == [corrupt_content]
    assert not list(cache.glob(".unfinished-*"))


def test_an_interrupted_download_leaves_no_file_in_the_cache(
    synthetic_data_dir, monkeypatch, tmp_path
):
    import keras

    def interrupted_get_file(name, *arguments, cache_dir, **options):
        (cache_dir / name).write_bytes((synthetic_data_dir / name).read_bytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.utils, "get_file", interrupted_get_file)
    with pytest.raises(KeyboardInterrupt):
        data.load(val_size=100)
    assert not list((tmp_path / "keras/datasets/fashion-mnist").iterdir())


def test_simultaneous_downloads_do_not_interfere(synthetic_data_dir, tmp_path):
    cache = tmp_path / "keras/datasets/fashion-mnist"
    cache.mkdir(parents=True)
    (cache / f"{IMAGES}.gz").write_bytes(b"corrupt")
    # Without the timeout, a thread would wait forever if the other one failed.
    barrier = threading.Barrier(2, timeout=60)
    errors = []

    def fetch(folder):
        for name in source.FILES:
            (folder / f"{name}.gz").write_bytes((synthetic_data_dir / f"{name}.gz").read_bytes())
        barrier.wait()
        return folder

    def work():
        try:
            source._fetch_into(cache, fetch)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert data.load(val_size=100).source == str(cache)
    renamed_files = [path for path in cache.iterdir() if path.suffix != ".gz"]
    assert b"corrupt" in [path.read_bytes() for path in renamed_files]
    assert all(".gz.wrong-" in path.name for path in renamed_files)


@pytest.fixture
def fake_apt(synthetic_data_dir, monkeypatch, tmp_path):
    """Install an apt-get that finds the package only after an update, and a dpkg-deb.

    Return the file to which apt-get writes its arguments.
    """
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    scripts = {
        "apt-get": f'echo "$@" >> "{tmp_path}/calls"\n'
        'case "$*" in\n'
        "*update) touch refreshed;;\n"
        '*download*) [ -e refreshed ] || { echo "E: no such package" >&2; exit 100; }\n'
        "  touch dataset-fashion-mnist_1_all.deb;;\n"
        "esac",
        "dpkg-deb": f'mkdir -p "$3{source.DEBIAN_FOLDER.parent}" && '
        f'cp -r "{synthetic_data_dir}" "$3{source.DEBIAN_FOLDER}"',
    }
    for name, body in scripts.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path / "calls"


def test_the_debian_package_is_used_if_no_other_source_exists(fake_apt):
    assert "Debian" in data.load(val_size=100).source
    calls = fake_apt.read_text().splitlines()
    assert [call.split()[-1] if call.endswith("update") else "download" for call in calls] == [
        "download",
        "update",
        "download",
    ]
    assert "Debian" not in data.load(val_size=100).source


def test_another_cache_is_used_if_the_home_folder_is_not_accessible(
    synthetic_data_dir, monkeypatch, tmp_path
):
    """Patch os.access, because root may access all folders."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(source, "MIRRORS", (synthetic_data_dir.as_uri() + "/",))
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: "elsewhere" in str(path) and access(path, mode)
    )
    for _ in range(2):
        assert (
            str(tmp_path / "elsewhere/.keras/datasets/fashion-mnist")
            in data.load(val_size=100).source
        )


def test_the_home_folder_of_an_unknown_user_causes_a_one_line_error(synthetic_data_dir):
    with pytest.raises(source.DataError, match="~nobody-has-this-name"):
        data.load("~nobody-has-this-name/data", 100)


def test_the_error_without_any_source_names_the_option_data_dir(
    synthetic_data_dir, monkeypatch, tmp_path
):
    with pytest.raises(source.DataError, match="--data-dir") as caught:
        data.load(val_size=100)
    assert "\n" not in str(caught.value)


def test_batches_contain_every_image_once_in_an_order_given_by_the_seed(synthetic_dataset):
    part = data.load(val_size=100).train
    stream = tf.Variable([0, 0])
    batches = data.batches(part, 64, shuffle=stream)

    def epoch():
        images, labels = map(np.concatenate, zip(*batches.as_numpy_iterator(), strict=True))
        assert rows(images) == rows(part.images) and len(images) == len(part.images)
        label_of = dict(zip((image.tobytes() for image in part.images), part.labels, strict=True))
        assert [label_of[image.tobytes()] for image in images] == labels.argmax(axis=1).tolist()
        return images.tobytes()

    first, repeated = epoch(), epoch()
    stream.assign([0, 1])
    other = epoch()
    stream.assign([0, 0])
    assert first == repeated == epoch() != other
    assert len(batches) == len(list(batches)) == 8


def test_batches_without_shuffling_keep_the_order(synthetic_dataset):
    part = data.load(val_size=100).validation
    images = np.concatenate([images for images, _ in data.batches(part, 32).as_numpy_iterator()])
    np.testing.assert_array_equal(images, part.images)


def test_augmentation_gets_a_seed_per_batch_and_a_turn_per_image(
    synthetic_dataset,
):
    seeds, turns = [], []

    def record(images, seed, batch_turns):
        tf.py_function(lambda value: seeds.append(tuple(value.numpy())), [seed], [])
        tf.py_function(lambda value: turns.extend(value.numpy()), [batch_turns], [])
        return images + 1

    part = data.load(val_size=100).train
    stream = tf.Variable([3, 0])
    batches = data.batches(part, 125, shuffle=stream, augment=record)
    assert min(images.min() for images, _ in batches.as_numpy_iterator()) >= 1
    stream.assign([3, 1])
    list(batches)
    assert len(seeds) == len(set(seeds)) == 8
    assert sorted(turns[:500]) == list(range(500)) and sorted(turns[500:]) == list(range(1, 501))


@pytest.mark.slow
def test_the_real_data_set_has_the_known_sizes_and_statistics(real_data):
    dataset = data.load(real_data, seed=1)
    assert dataset.train.images.shape == (55000, 28, 28, 1)
    assert np.bincount(dataset.validation.labels).tolist() == [500] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    images = np.concatenate([dataset.train.images, dataset.validation.images])
    assert images.mean() == pytest.approx(0.2860, abs=1e-4)
    assert images.std() == pytest.approx(0.3530, abs=1e-4)
    assert dataset.fingerprint == "d1fd84a877f3b78fa9a171b3de73f93e7b6f69ed94bada3feae9d96821401f5c"
