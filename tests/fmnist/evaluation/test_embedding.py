import numpy as np
import pytest

from fmnist.evaluation import embedding

RNG = np.random.default_rng(0)
LABELS = np.arange(90) % 3
# Two clear clusters, and a class that is spread over both.
VECTORS = (
    RNG.normal(size=(90, 20)) + 40 * np.where(LABELS == 2, RNG.integers(0, 2, 90), LABELS)[:, None]
)


def test_the_maps_keep_the_clusters_apart():
    maps = embedding.flat_maps(VECTORS)
    assert [name.split()[0].strip(":") for name in maps] == ["PCA", "t-SNE"]
    for points in maps.values():
        assert points.shape == (90, 2)
        first, second = points[LABELS == 0], points[LABELS == 1]
        apart = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
        assert apart > 2 * max(first.std(), second.std())


def test_the_maps_are_the_same_every_time():
    first, second = embedding.flat_maps(VECTORS), embedding.flat_maps(VECTORS)
    for name, points in first.items():
        np.testing.assert_array_equal(points, second[name])


def test_purity_is_the_fraction_of_neighbours_of_the_same_class():
    vectors = np.array([[0.0], [1], [2], [10], [11], [12]])
    purity = embedding.neighbour_purity(vectors, np.array([0, 0, 1, 1, 1, 1]), 3)
    # All five others are neighbours.
    assert purity == [pytest.approx(1 / 5), pytest.approx(3 / 5), None]
    pure = embedding.neighbour_purity(VECTORS[LABELS < 2], LABELS[LABELS < 2], 3)
    assert pure == [1, 1, None]


@pytest.mark.parametrize("size", [1, 7, 90])
def test_the_nearest_vectors_are_found_in_all_batches(size):
    queries = RNG.normal(size=(5, 20))
    distances = np.linalg.norm(queries[:, None] - VECTORS, axis=2)
    batches = (VECTORS[start : start + size] for start in range(0, 90, size))
    indices, found = embedding.nearest(queries, batches, 4)
    np.testing.assert_array_equal(indices, np.argsort(distances, axis=1)[:, :4])
    np.testing.assert_allclose(found, np.sort(distances, axis=1)[:, :4])
