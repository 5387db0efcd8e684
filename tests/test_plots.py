import io

import numpy as np
import pytest
from matplotlib.colors import to_hex

import plots

NAMES = ("left", "middle", "right")
RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 28, 28, 1))
LABELS = RNG.integers(0, 3, 40)
SHARES = RNG.dirichlet([0.3] * 3, 40)
CORRECT = SHARES.argmax(axis=1) == LABELS
HISTORY = [{"epoch": epoch, "accuracy": 0.5 + epoch / 20, "val_accuracy": 0.4 + epoch / 20,
            "loss": 2 / epoch, "val_loss": 2.5 / epoch} for epoch in (1, 2, 3, 4)]


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def pictures(figure):
    return [axes for axes in figure.axes if axes.images]


def pictures_of(figure):
    return [axes.images[0].get_array() for axes in pictures(figure)]


@pytest.mark.parametrize("history", [HISTORY, HISTORY[:1]])
def test_curves_show_the_history_and_mark_the_epoch(history):
    figure = plots.curves(history, chosen_epoch=1)
    assert pixels(figure).std() > 10
    for axes, key in zip(figure.axes, ("accuracy", "loss")):
        training, validation, mark = axes.lines
        assert list(training.get_ydata()) == [row[key] for row in history]
        assert list(validation.get_ydata()) == [row[f"val_{key}"] for row in history]
        assert set(mark.get_xdata()) == {1}
        assert axes.get_xlabel() and axes.get_ylabel()
        assert len(history) > 1 or training.get_marker() == "o"


def test_confusion_matrix_writes_the_counts_and_shades_the_shares():
    figure = plots.confusion_matrix(np.array([[8, 2, 0], [0, 5, 0], [0, 0, 0]]), NAMES)
    axes = pictures(figure)[0]
    assert [text.get_text() for text in axes.texts] == ["8", "2", "5"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[.8, .2, 0], [0, 1, 0], [0, 0, 0]])
    assert axes.get_xlabel() == "Predicted class" and axes.get_ylabel() == "True class"
    assert pixels(figure).std() > 10


def test_predictions_are_blue_where_correct_and_red_where_wrong():
    figure = plots.predictions(IMAGES[:10], LABELS[:10], SHARES[:10], NAMES)
    assert len(pictures(figure)) == 10
    for axes, image, label, shares, correct in zip(pictures(figure), IMAGES, LABELS, SHARES, CORRECT):
        np.testing.assert_array_equal(axes.images[0].get_array(), image[..., 0])
        title = axes.get_title()
        assert f"{NAMES[shares.argmax()]} {shares.max():.0%}" in title
        assert (f"is {NAMES[label]}" in title) == (not correct)
        assert to_hex(axes.title.get_color()).upper() == (plots.BLUE if correct else plots.RED)
    assert pixels(figure).std() > 10


def test_correct_and_wrong_stand_side_by_side():
    figure = plots.correct_and_wrong(IMAGES, LABELS, SHARES, NAMES)
    wanted = [*IMAGES[CORRECT][:12], *IMAGES[~CORRECT][:12]]
    np.testing.assert_array_equal(pictures_of(figure), np.array(wanted)[..., 0])
    assert pixels(figure).std() > 10


def test_mistakes_are_the_surest_wrong_ones_in_order():
    figure = plots.mistakes(IMAGES, LABELS, SHARES, NAMES, rows=1)
    wrong = np.flatnonzero(~CORRECT)
    order = sorted(wrong, key=lambda index: -SHARES[index].max())[:6]
    np.testing.assert_array_equal(pictures_of(figure), IMAGES[order][..., 0])
    assert pixels(figure).std() > 10


def test_calibration_leaves_bins_of_few_images_out():
    before = np.array([0, 30, 20]), np.array([0, 0.5, 0.9]), np.array([0, 0.4, 0.2])
    after = np.array([19, 30, 0]), np.array([0.3, 0.5, 0]), np.array([0.2, 0.4, 0])
    figure = plots.calibration(before, after, 0.25, 0.125)
    _, first, second = figure.axes[0].lines
    assert list(first.get_xdata()) == [0.5, 0.9] and list(second.get_ydata()) == [0.4]
    assert "0.250" in first.get_label() and "0.125" in second.get_label()
    assert pixels(figure).std() > 10


@pytest.mark.parametrize("labels", [SHARES.argmax(axis=1), SHARES.argmin(axis=1)], ids=["perfect", "all wrong"])
def test_figures_of_a_perfect_and_a_hopeless_model(labels):
    for draw in (plots.correct_and_wrong, plots.mistakes):
        pixels(draw(IMAGES, labels, SHARES, NAMES))


@pytest.mark.parametrize("count", [1, 4, 5])
def test_probabilities_show_every_distribution_beside_its_image(count):
    figure = plots.probabilities(IMAGES[:count], LABELS[:count], SHARES[:count], NAMES)
    assert len(pictures(figure)) == count
    bars = [axes for axes in figure.axes if axes.patches]
    for axes, shares in zip(bars, SHARES[:count], strict=True):
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], shares)
    assert pixels(figure).std() > 10


ROWS = [{"label": label, "group": group, "accuracy": accuracy, "accuracy_deviation": 0.01, "val_accuracy": accuracy + 0.01,
         "val_accuracy_deviation": None, "train_accuracy": accuracy + 0.05, "seconds": seconds}
        for label, group, accuracy, seconds in (("best", "recipes", 0.94, 900), ("deep", "networks", 0.93, 100),
                                                ("knn", "baselines", 0.85, 1))]


def test_accuracy_against_cost_numbers_its_points_and_names_them():
    figure = plots.accuracy_against_cost(ROWS)
    axes, = figure.axes
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1  best", "2  deep", "3  knn"]
    assert [tuple(text.xy) for text in axes.texts] == [(row["seconds"], 100 * (1 - row["accuracy"])) for row in ROWS]
    assert pixels(figure).std() > 10


def test_gaps_and_parts_and_depths_are_drawn_where_the_accuracies_are():
    axes, = plots.gaps(ROWS).axes
    assert [text.get_text() for text in axes.texts] == ["+4.0"] * 3
    assert [name.get_text() for name in axes.get_yticklabels()] == ["best", "deep", "knn"]
    axes, = plots.with_and_without({"deep-without-dropout": (ROWS[1], ROWS[2])}).axes
    assert [list(line.get_xdata()) for line in axes.lines if line.get_marker() in ("o", "s")] == [[94], [86]]
    axes, = plots.depth({1: ROWS[2], 4: ROWS[1]}).axes
    assert [pytest.approx([90, 98])] == [list(line.get_ydata()) for line in axes.lines if line.get_label() == "training"]


def test_recalls_and_differences_of_confusion_stand_in_their_cells():
    figure = plots.class_recalls({"one": np.array([1, 0.5, 0.9]), "two": np.array([0.8, 0.7, 0.6])}, NAMES)
    assert [text.get_text() for text in figure.axes[0].texts] == ["100.0", "50.0", "90.0", "80.0", "70.0", "60.0"]
    figure = plots.confusion_difference(np.array([[3, -3, 0], [0, 0.2, 0], [0, 0, -7]]), NAMES, "one", "two")
    assert [text.get_text() for text in figure.axes[0].texts] == ["+3", "-3", "-7"]
    picture, = figure.axes[0].images
    assert picture.norm.vmin == -picture.norm.vmax == -7


def test_the_data_are_drawn_class_by_class():
    figure = plots.samples(IMAGES, LABELS, NAMES, columns=4)
    np.testing.assert_array_equal(pictures_of(figure)[4], IMAGES[LABELS == 1][0][..., 0])
    figure = plots.class_counts({"train": np.array([5, 6, 7]), "test": np.array([1, 2, 3])}, NAMES)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [5, 6, 7, 1, 2, 3]
    figure = plots.class_means(IMAGES[:3], IMAGES[3:6], NAMES)
    assert [axes.get_title() for axes in figure.axes[:3]] == list(NAMES)
    np.testing.assert_allclose(pictures_of(figure)[3], IMAGES[3, ..., 0] / IMAGES[3:6].max())
    figure = plots.pixel_histogram({"train": np.full(256, 2), "test": np.arange(256)})
    np.testing.assert_allclose(figure.axes[0].patches[0].get_data().values, 100 / 256)
    points = {"PCA": RNG.random((40, 2)), "t-SNE": RNG.random((40, 2))}
    figure = plots.maps(points, LABELS, NAMES)
    np.testing.assert_array_equal(figure.axes[1].collections[2].get_offsets(), points["t-SNE"][LABELS == 2])
    figure = plots.pairs(IMAGES[:6].reshape(3, 2, 28, 28, 1), ["a", "b", "c"], "pairs")
    np.testing.assert_array_equal(pictures_of(figure)[1][:, 29:], IMAGES[3, ..., 0])
    assert [axes.get_title() for axes in pictures(figure)] == ["a", "b", "c"]


def test_every_class_has_a_colour_of_its_own():
    assert len({*plots.CLASS_COLOURS}) == 10
