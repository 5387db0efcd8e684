"""Tests of the published recipes that use PyTorch, where it is installed.

Each test runs in its own process, because PyTorch fails in a process that has imported TensorFlow.
"""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks.peers import PEERS
from benchmarks.processes import in_own_process

needs_torch = pytest.mark.skipif(not find_spec("torch"), reason="PyTorch is not installed")


def rectangles(count):
    """Return images of bright rectangles, of ten heights and places, and their labels."""
    labels = np.random.default_rng(0).integers(0, 10, count)
    images = np.zeros((count, 28, 28, 1), np.float32)
    for image, label in zip(images, labels, strict=True):
        image[4 + 9 * (label // 4) :, 4:22][: 3 + 2 * (label % 4)] = 1
    return images, labels


def stand_in(model, batch):
    """Return a network that accepts what a compiled one accepts without another compilation."""

    def network(inputs):
        assert (inputs.shape, inputs.stride()) == (batch.shape, batch.stride())
        return model(inputs)

    return network, 0.0


def trained(name, images, labels, epochs, **changes):
    from benchmarks.published import with_torch

    with_torch.compile_network = stand_in  # a compilation takes a minute
    peer = PEERS[name]
    recipe = getattr(with_torch, peer.recipe.removeprefix("with_torch."))
    return recipe(images, labels, seed=0, epochs=epochs, **peer.settings | changes)


# Epochs and smaller networks of the test.
SMALL = {
    "torch-tutorial": (10, {}),
    "fastai-5": (20, {"filters": (4, 8)}),
    "fastai-20": (20, {"filters": (4, 8)}),
    "airbench-16": (6, {"width": 8}),
    "airbench-32": (6.5, {"width": 8}),
    "resnet20": (2, {}),
}


def check_learning(name):
    images, labels = rectangles(2048)
    epochs, changes = SMALL[name]
    count = 1100 if name.startswith("airbench") else 200  # at least one batch
    few = images[:count], labels[:count]
    first, again = (trained(name, *few, 1, **changes).predict(images[:50]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    scores = trained(name, images, labels, epochs, **changes).predict(images)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-4)
    assert (scores.argmax(axis=1) == labels).mean() > 0.3
    assert "tensorflow" not in sys.modules


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_learns_and_repeats(name):
    in_own_process(check_learning, name)


def test_every_recipe_is_tested():
    assert set(SMALL) == {name for name, peer in PEERS.items() if "with_torch." in peer.recipe}


def check_parameters():
    published = {"fastai-5": 1_231_428, "fastai-20": 4_907_588, "torch-tutorial": 44_426}
    published["resnet20"] = 271_994  # 0.27 million
    images, labels = rectangles(128)
    counts = {name: trained(name, images, labels, 1).parameters for name in published}
    assert counts == published


@needs_torch
@pytest.mark.slow
def test_the_networks_have_as_many_parameters_as_published():
    in_own_process(check_parameters)


def check_shifts():
    import torch

    from benchmarks.published import with_torch

    torch.manual_seed(0)
    images = torch.zeros(300, 1, 28, 28)
    images[:, :, 14, 14] = 1
    moved = with_torch.shifted(images, 2, "constant", 0.5)
    _, _, rows, columns = torch.nonzero(moved == 1, as_tuple=True)
    assert len(rows) == 300
    assert set(rows.tolist()) == set(columns.tolist()) == {12, 13, 14, 15, 16}
    assert ((moved == 0.5).sum(dim=(1, 2, 3)) > 0).float().mean() > 0.9


@needs_torch
@pytest.mark.slow
def test_images_are_moved_by_up_to_the_given_number_of_pixels():
    in_own_process(check_shifts)


def check_batches():
    import torch

    from benchmarks.published import with_torch

    inputs = torch.arange(10.0).reshape(10, 1, 1, 1)
    batches = [
        batch.flatten().tolist() for batch, _ in with_torch.batches(inputs, np.arange(10), 2, 4)
    ]
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    first, second = sum(batches[:3], []), sum(batches[3:], [])
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    complete = with_torch.batches(inputs, np.arange(10), 1, 4, drop_last=True)
    assert [len(batch) for batch, _ in complete] == [4, 4]


@needs_torch
@pytest.mark.slow
def test_every_epoch_has_every_image_once_in_another_order():
    in_own_process(check_batches)


def check_rectangles():
    import torch

    from benchmarks.published import with_torch

    torch.manual_seed(0)
    sides = with_torch.rectangles(5000)
    areas = sides.prod(dim=1) / 28**2
    assert sides.shape == (5000, 2) and sides.min() >= 1 and sides.max() == 27
    assert areas.min() < 0.03 and 0.35 < areas.max() <= 0.4


@needs_torch
@pytest.mark.slow
def test_erased_rectangles_fit_into_the_image():
    in_own_process(check_rectangles)
