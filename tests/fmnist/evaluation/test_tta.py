import numpy as np

from fmnist.evaluation.tta import views

# A single bright pixel left of the centre shows how an image was moved.
IMAGES = np.zeros((40, 28, 28, 1), np.float32)
IMAGES[:, 14, 10] = 1


def test_the_first_view_is_the_original_and_the_others_are_all_flips_and_shifts():
    def positions(**options):
        """Return the position of the bright pixel in every view."""
        first, *others = (np.argwhere(view)[:, 1:3] for view in views(IMAGES, **options))
        assert (first == (14, 10)).all()
        return [tuple(view[0]) for view in (first, *others)]

    assert positions(flips=False, shifts=False) == [(14, 10)]
    assert positions(flips=True, shifts=False) == [(14, 10), (14, 17)]
    shifted = {(row, column) for row in (13, 14, 15) for column in (9, 10, 11)}
    assert sorted(positions(flips=False, shifts=True)) == sorted(shifted)
    assert sorted(positions(flips=True, shifts=True)) == sorted(
        shifted | {(row, 27 - column) for row, column in shifted}
    )
    white = np.ones((1, 28, 28, 1), np.float32)
    assert sorted(int(view.sum()) for view in views(white, flips=False, shifts=True)) == [
        27 * 27
    ] * 4 + [27 * 28] * 4 + [28 * 28]
