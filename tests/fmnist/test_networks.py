import numpy as np
import pytest

from fmnist.networks import initialise, mobilenet_backbone, pretrained_weights, set_backbone_weights
from model import build_model


@pytest.mark.slow
def test_mobilenet_borrows_the_weights_of_a_file(tmp_path):
    source, model = mobilenet_backbone(0.35), build_model("mobilenet", width=0.35)
    source.save_weights(tmp_path / "own.weights.h5")
    set_backbone_weights(model, pretrained_weights(0.35, str(tmp_path / "own.weights.h5")))
    for own, borrowed in zip(model.layers[3].weights, source.weights, strict=True):
        np.testing.assert_array_equal(own, borrowed)

    (tmp_path / "cut.weights.h5").write_bytes((tmp_path / "own.weights.h5").read_bytes()[:5000])
    for width, file in ((0.35, "cut.weights.h5"), (0.5, "own.weights.h5"), (0.35, "missing.h5")):
        with pytest.raises(ValueError, match="cannot be had") as error:
            pretrained_weights(width, str(tmp_path / file))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name, ensemble_size", [("deep_cnn", 2), ("mobilenet", 1)])
def test_weights_are_drawn_by_the_seed_alone(name, ensemble_size):
    # Of whatever Python's generator gives.
    one, two = (build_model(name, ensemble_size) for _ in range(2))
    as_built = one.get_weights()
    initialise(one, 5)
    initialise(two, 5)
    for first, second, before in zip(one.get_weights(), two.get_weights(), as_built, strict=True):
        np.testing.assert_array_equal(first, second)
        if first.ndim > 1 and before.std():
            assert not np.array_equal(first, before) and first.std() == pytest.approx(
                before.std(), rel=0.5
            )
    drawn = [weight for weight in one.get_weights() if weight.ndim > 1 and weight.std()]
    assert len({weight.tobytes() for weight in drawn}) == len(drawn)
    initialise(two, 6)
    assert not np.array_equal(one.get_weights()[-2], two.get_weights()[-2])
