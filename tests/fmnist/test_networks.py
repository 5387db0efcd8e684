import numpy as np
import pytest

from fmnist.networks import (
    initialise,
    mobilenet_backbone,
    pretrained_weights,
    set_backbone_weights,
    training_conditions,
)
from model import build_model


def test_training_conditions_name_dropout_and_augmentation():
    assert training_conditions(build_model("dropout_cnn"), "flip") == ["dropout", "augmentation"]
    assert training_conditions(build_model("dropout_cnn", 2), "none") == ["dropout"]
    assert training_conditions(build_model("deep_cnn"), "none") == []  # dropout layers of rate 0


@pytest.mark.slow
def test_mobilenet_loads_its_backbone_weights_from_a_file(tmp_path):
    backbone, model = mobilenet_backbone(0.35), build_model("mobilenet", width=0.35)
    valid, truncated = tmp_path / "valid.weights.h5", tmp_path / "truncated.weights.h5"
    backbone.save_weights(valid)
    set_backbone_weights(model, pretrained_weights(0.35, str(valid)))
    for weight, expected in zip(model.layers[3].weights, backbone.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)

    truncated.write_bytes(valid.read_bytes()[:5000])
    for width, file in ((0.35, truncated), (0.5, valid), (0.35, tmp_path / "missing.h5")):
        with pytest.raises(ValueError, match="cannot be loaded") as caught:
            pretrained_weights(width, str(file))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name, ensemble_size", [("deep_cnn", 2), ("mobilenet", 1)])
def test_initial_weights_depend_only_on_the_seed(name, ensemble_size):
    # The initial weights differ, because Keras uses Python's global random generator.
    first_model, second_model = (build_model(name, ensemble_size) for _ in range(2))
    weights_before = first_model.get_weights()
    initialise(first_model, 5)
    initialise(second_model, 5)
    for first, second, before in zip(
        first_model.get_weights(), second_model.get_weights(), weights_before, strict=True
    ):
        np.testing.assert_array_equal(first, second)
        if first.ndim > 1 and before.std():
            assert not np.array_equal(first, before) and first.std() == pytest.approx(
                before.std(), rel=0.5
            )
    random_weights = [
        weight for weight in first_model.get_weights() if weight.ndim > 1 and weight.std()
    ]
    assert len({weight.tobytes() for weight in random_weights}) == len(random_weights)
    initialise(second_model, 6)
    assert not np.array_equal(first_model.get_weights()[-2], second_model.get_weights()[-2])
