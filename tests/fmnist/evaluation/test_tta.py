import numpy as np

from fmnist.evaluation.tta import views

# One bright dot left of the middle tells where an image went.
IMAGES = np.zeros((40, 28, 28, 1), np.float32)
IMAGES[:, 14, 10] = 1


def test_the_views_are_the_images_first_and_then_all_their_flips_and_shifts():
    def places(**options):
        first, *others = (np.argwhere(view)[:, 1:3] for view in views(IMAGES, **options))
        assert (first == (14, 10)).all()
        return [tuple(view[0]) for view in (first, *others)]

    assert places(flips=False, shifts=False) == [(14, 10)]
    assert places(flips=True, shifts=False) == [(14, 10), (14, 17)]
    nine = {(row, column) for row in (13, 14, 15) for column in (9, 10, 11)}
    assert sorted(places(flips=False, shifts=True)) == sorted(nine)
    assert sorted(places(flips=True, shifts=True)) == sorted(
        nine | {(row, 27 - column) for row, column in nine}
    )
    white = np.ones((1, 28, 28, 1), np.float32)
    assert sorted(int(view.sum()) for view in views(white, flips=False, shifts=True)) == [
        27 * 27
    ] * 4 + [27 * 28] * 4 + [28 * 28]
