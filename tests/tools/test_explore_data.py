"""explore_data.py on small synthetic data that contains duplicates."""

import json

import numpy as np
import pytest

from fmnist import source
from tests.synthetic_data import make_arrays, write_dataset
from tools import explore_data
from tools.exploration import figures, findings


@pytest.fixture
def duplicates(synthetic_dataset, monkeypatch):
    """Data in which two training images are equal and the first test image is a brighter copy of
    them with another label.
    """
    arrays = make_arrays()
    images, labels, test_images, test_labels = arrays
    images[1], labels[1] = images[0], labels[0]
    test_images[0], test_labels[0] = (
        np.minimum(images[0].astype(int) * 51 // 50, 255),
        (labels[0] + 1) % 10,
    )
    monkeypatch.setattr(source, "FILES", write_dataset(synthetic_dataset, arrays))


@pytest.mark.slow
def test_the_findings_are_correct_and_drawn(duplicates, tmp_path, capsys):
    assert explore_data.main(["--val-size", "100", "--output-dir", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out/findings.json").read_text())
    images, *_ = make_arrays()
    assert found["images"] == {"train": 600, "test": 200}
    assert found["mean"] == pytest.approx(images.mean() / 255, abs=1e-3)
    assert sum(row["images"] for row in found["classes"]) == 800
    assert found["duplicates"]["within train"] == {
        "exact": 1,
        "near": 0,
        "with_different_labels": 0,
    }
    assert found["duplicates"]["between train and test"] == {
        "exact": 0,
        "near": 2,
        "with_different_labels": 2,
    }
    page = (tmp_path / "out/report.html").read_text()
    for name in figures.CAPTIONS:
        assert (tmp_path / f"out/figures/{name}.png").stat().st_size > 3000
        assert f'alt="{name}"' in page
    output = capsys.readouterr().out
    assert "1 pairs of exact duplicates and 2 pairs of near duplicates" in output
    assert output.splitlines()[-1] == "Next: python train_cnn.py"


def test_an_image_is_not_its_own_neighbour():
    images = np.random.default_rng(0).random((30, 28, 28, 1)).astype(np.float32)
    images[[3, 4, 5]] = images[3]
    neighbours, distances = findings.nearest(images)
    assert (neighbours != np.arange(30)[:, None]).all()
    assert {*neighbours[3:6, :2].ravel()} == {3, 4, 5}
    vectors = images.reshape(30, -1) / np.linalg.norm(images.reshape(30, -1), axis=1, keepdims=True)
    expected = np.linalg.norm(vectors[:, None] - vectors, axis=-1) + 9 * np.eye(30)
    np.testing.assert_allclose(
        distances, np.sort(expected, axis=1)[:, : findings.NEIGHBOURS], atol=1e-3
    )


def test_an_image_with_many_copies_is_not_its_own_neighbour():
    images = np.ones((20, 28, 28, 1), np.float32)
    neighbours, distances = findings.nearest(images)
    assert neighbours.shape == (20, findings.NEIGHBOURS)
    np.testing.assert_allclose(distances, 0, atol=1e-3)  # rounding depends on the processor
    assert (neighbours != np.arange(20)[:, None]).all()


def test_pairs_are_unique_and_sorted_by_distance():
    pairs, distances = findings.closest_pairs(
        np.array([[1], [0], [3], [2]]), np.array([[0.4], [0.4], [0.2], [0.2]])
    )
    assert pairs.tolist() == [[2, 3], [0, 1]]
    assert distances.tolist() == [0.2, 0.4]


@pytest.mark.parametrize("size", ["3", "nan", "-1", "60000", "some"])
def test_an_invalid_validation_size_is_rejected(size, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        explore_data.main(["--val-size", size, "--output-dir", str(tmp_path / "out")])
    assert (
        stop.value.code == 2
        and capsys.readouterr().err.count("\n") == 1
        and not (tmp_path / "out").exists()
    )


def test_invalid_folders_are_rejected_with_one_line(synthetic_dataset, tmp_path, capsys):
    assert explore_data.main(["--val-size", "100", "--data-dir", str(tmp_path / "nowhere")]) == 1
    (tmp_path / "file").touch()
    assert explore_data.main(["--val-size", "100", "--output-dir", str(tmp_path / "file")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all(line.startswith("explore_data.py: ") for line in errors)
