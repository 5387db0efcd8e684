import numpy as np
import pytest

import data
from fmnist import model_file, runs
from fmnist.evaluation import activations, attribution
from fmnist.image_grid import overlay
from model import build_model
from tests.figures import image_arrays
from tools.comparison import class_activation, comparison, figures

CLASSES = {"gap_cnn": 0, "dropout_cnn": 1}  # the class that each network always predicts


@pytest.fixture
def rows(synthetic_dataset, tmp_path):
    """Rows of two networks of which each is right for the images of a single class."""
    test = data.load(val_size=100).test
    rows = []
    for name, label in CLASSES.items():
        (tmp_path / f"{name}-3").mkdir()
        model_file.save(build_model(name, width=0.25), tmp_path / f"{name}-3" / runs.MODEL)
        predicted = np.full((1, len(test.labels)), label)
        rows.append(
            {
                "name": name,
                "label": f"{name}, 5 epochs",
                "first_seed": 3,
                "predicted": predicted,
                "correct": predicted == test.labels,
            }
        )
    return rows


def test_the_images_that_only_one_network_gets_right_are_shown_with_both_maps(rows, tmp_path):
    figure = class_activation.draw(tmp_path, *rows, None)
    test = data.load(val_size=100).test
    indices = [*np.flatnonzero(test.labels == 0)[:5], *np.flatnonzero(test.labels == 1)[:5]]
    cells = image_arrays(figure)
    assert len(cells) == 30
    np.testing.assert_allclose(cells[7][..., 0], 1 - test.images[indices[7], ..., 0])
    run = tmp_path / "dropout_cnn-3"
    members = activations.inspected_members(run, runs.load_model(run))
    values = attribution.hires_cam(members, test.images[indices], np.full(10, 1))[7]
    expected = overlay(test.images[indices[7], ..., 0], values, values.max())
    np.testing.assert_allclose(cells[27], expected, atol=1e-4)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("T-shirt/top") == 5 + 10 and texts.count("Trouser") == 5 + 10
    assert "gap_cnn,\n5 epochs" in texts


def test_networks_that_agree_have_no_figure(rows, tmp_path):
    assert class_activation.draw(tmp_path, rows[0], rows[0], None) is None


def test_a_comparison_without_the_weights_of_two_networks_has_no_figure(rows, tmp_path):
    assert comparison.class_activation_figure(tmp_path, rows, None).keys() == {"class_activation"}
    baseline = rows[1] | {"name": "knn"}
    assert comparison.class_activation_figure(tmp_path, [rows[0], baseline], None) == {}


def test_a_corrupt_network_does_not_prevent_the_other_results(rows, tmp_path, capsys):
    (tmp_path / "gap_cnn-3/model.keras").write_bytes(b"truncated")
    assert comparison.class_activation_figure(tmp_path, rows, None) == {}
    output = capsys.readouterr().out
    assert output.startswith("warning: no figure of where two networks look: ")
    assert str(tmp_path / "gap_cnn-3/model.keras") in output


def test_the_best_is_compared_with_the_classic_recipe_or_else_the_second():
    best, second, classic = ({"name": name} for name in ("best", "quick", "classic"))
    assert figures.compared_pair([best, second, classic]) == (best, classic)
    assert figures.compared_pair([classic, second, best]) == (classic, second)
