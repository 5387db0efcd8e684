"""inspect_model.py on small synthetic data."""

import csv
import json
import re
import shutil

import keras
import numpy as np
import pytest
from keras import layers as keras_layers

import data
import train_cnn
from fmnist import image_grid, model_file, runs, source
from fmnist.config import TrainConfig
from fmnist.evaluation import activations, attribution, metrics
from model import MODELS, build_model
from tests import ROOT
from tests.synthetic_data import OPTIONS, TEST, TRAIN, make_arrays, write_dataset
from tools import inspect_model
from tools.inspection import attribution_maps, examples, inspected, inspection, layers

FIGURES = {
    "attribution_correct",
    "attribution_mistakes",
    "confidence_by_class",
    "confused_pairs",
    "embedding",
    "feature_maps",
    "filters",
    "nearest_images",
    "patches",
    "roc_and_precision_recall",
}


@pytest.fixture
def run(synthetic_dataset, tmp_path):
    """Return a copy of a run that is trained once for all tests."""
    runs_dir = tmp_path.parent / "inspected"
    if not runs_dir.exists():
        options = [
            *("--val-size", "100", "--epochs", "3", "--batch-size", "50"),
            *("--model", "dropout_cnn", "--width", "0.25"),
        ]
        assert (
            train_cnn.main([*OPTIONS, *options, "--runs-dir", str(runs_dir), "--name", "run"]) == 0
        )
    return shutil.copytree(runs_dir / "run", tmp_path / "runs/run")


def table(folder, name):
    with open(folder / f"tables/{name}.csv", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def error(arguments, capsys):
    """Return the only line on standard error of a command that fails."""
    capsys.readouterr()
    assert inspect_model.main(arguments) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    return message


def replace_model(run, model):
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    model_file.save(model, run / runs.MODEL)


def test_a_run_is_inspected(run, capsys):
    assert inspect_model.main(["--runs-dir", str(run.parent)]) == 0
    folder = run / "inspection"
    output = capsys.readouterr().out
    assert f"Saved {folder / 'inspection.html'}" in output
    assert {path.stem for path in (folder / "figures").iterdir()} >= FIGURES
    page = (folder / "inspection.html").read_text()
    for name in FIGURES:
        assert (folder / f"figures/{name}.png").stat().st_size > 3000
        assert f'alt="{name}"' in page
    assert not re.search(
        r'(src|href)="(?!data:)|url\((?!data:)|//', re.sub(r"base64,[^\"]*", "", page)
    )

    test = data.load(val_size=100).test
    model = runs.load_model(run)
    predicted = model.predict(test.images, verbose=0).argmax(axis=1)
    results = json.loads((folder / "inspection.json").read_text())
    assert results["accuracy"] == np.mean(predicted == test.labels)
    rows = table(folder, "embedding")
    assert [row["predicted"] for row in rows] == [source.CLASS_NAMES[label] for label in predicted]
    assert [row["label"] for row in rows] == [source.CLASS_NAMES[label] for label in test.labels]
    assert [row["layer"] for row in table(folder, "convolutions")] == [
        layer.name for layer in model.layers if isinstance(layer, keras_layers.Conv2D)
    ]
    (_, train_labels, _, _), _ = data.read()
    for row in table(folder, "nearest_images"):
        index = int(row["test_index"])
        assert row["label"] == source.CLASS_NAMES[test.labels[index]] != row["predicted"]
        training_label = train_labels[int(row["training_index"])]
        assert row["training_label"] == source.CLASS_NAMES[training_label]
    assert len(table(folder, "randomisation_check")) == 6
    assert len(results["costs"]) == len(inspection.PARTS)
    assert all(cost["peak_memory_mb"] > 100 for cost in results["costs"].values())
    assert all(0 <= value <= 1 for value in results["neighbour_purity"].values())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MODELS, "ensemble"])
def test_every_network_can_be_inspected(run, name, monkeypatch, tmp_path):
    monkeypatch.setattr(layers, "SAMPLE", 30)
    monkeypatch.setattr(attribution, "STEPS", 2)
    model = build_model("deep_cnn", 2, width=0.25) if name == "ensemble" else build_model(name)
    replace_model(run, model)
    loaded = inspected.load(run, None, tmp_path)
    drawn = layers.filters(loaded).figures | layers.feature_maps(loaded).figures
    assert drawn.keys() >= {"filters", "patches", "feature_maps"}
    assert (
        ("feature_maps_2" in drawn) == ("patches_2" in drawn) == (name in ("resnet", "mobilenet"))
    )
    if name == "ensemble":
        part = attribution_maps.class_activation(loaded)
        assert "attribution_mistakes" in part.figures
        assert part.results["randomisation_check"].keys() == {*attribution.METHODS}
        assert examples.nearest_images(loaded).figures


def cells(figure):
    """Return the cells of a grid of images, in the order in which they were drawn."""
    return [image.get_array() for image in figure.axes[0].images]


@pytest.fixture
def loaded(run, tmp_path, monkeypatch):
    """The run, ready for single parts of the inspection."""
    monkeypatch.setattr(layers, "SAMPLE", 60)
    monkeypatch.setattr(attribution, "STEPS", 2)
    return inspected.load(run, None, tmp_path)


def test_the_temperature_comes_from_the_validation_set(run, tmp_path):
    config = runs.load_config(run) | {"label_smoothing": 0.2}
    (run / runs.CONFIG).write_text(json.dumps(config))
    loaded = inspected.load(run, None, tmp_path)
    dataset = data.load(val_size=100)
    validation, test = (
        loaded.model.predict(part.images, verbose=0) for part in (dataset.validation, dataset.test)
    )
    temperature = metrics.fit_temperature(dataset.validation.labels, validation, 0.2)
    expected = metrics.calibrated(test, temperature, 0.2)
    # All predictions for the synthetic images are certain: compare small probabilities, too.
    np.testing.assert_allclose(loaded.probabilities, expected, rtol=0.05, atol=1e-6)
    without = metrics.calibrated(test, temperature)
    assert not np.allclose(without, expected, rtol=0.05, atol=1e-6)
    wrong = loaded.predicted != dataset.test.labels
    assert {*loaded.mistakes} == {*np.flatnonzero(wrong)}
    confidences = loaded.probabilities.max(axis=1)[loaded.mistakes]
    assert (np.diff(confidences) <= 0).all()


@pytest.mark.parametrize(
    "settings", [{}, {"limit": 300}, {"fold": 2, "val_size": 120}, {"seed": 3}, None]
)
def test_training_images_are_found_in_the_file(run, tmp_path, settings):
    """None stands for a run of an earlier version, without the setting fold."""
    config = json.loads((run / "config.json").read_text())
    config |= settings or {}
    if settings is None:
        del config["fold"]
    (run / "config.json").write_text(json.dumps(config))
    loaded = inspected.load(run, None, tmp_path)
    (images, labels, _, _), _ = data.read()
    train = loaded.dataset.train
    np.testing.assert_array_equal(labels[loaded.train_indices], train.labels)
    np.testing.assert_array_equal(images[loaded.train_indices], np.rint(255 * train.images[..., 0]))


def test_the_data_folder_of_the_run_is_used(run, synthetic_data_dir, tmp_path, monkeypatch):
    config = json.loads((run / "config.json").read_text())
    config["data_dir"] = str(synthetic_data_dir)
    (run / "config.json").write_text(json.dumps(config))
    monkeypatch.delenv("FASHION_MNIST_DIR")
    assert inspected.load(run, None, tmp_path).data_dir == str(synthetic_data_dir)


def test_the_rows_of_the_attribution_figures_are_methods_and_classes(loaded):
    indices = loaded.mistakes[:2]
    figure = attribution_maps.attribution_figure(loaded, indices, "Mistakes")
    test = loaded.dataset.test
    images, labels = test.images[indices], test.labels[indices]
    drawn = cells(figure)
    assert len(drawn) == 2 * (1 + 2 * len(attribution.METHODS))
    np.testing.assert_allclose(drawn[1], image_grid.grey(images[1, ..., 0]), atol=1e-6)
    for number, (name, method) in enumerate(attribution.METHODS.items()):
        maps = [method(loaded.members, images, loaded.predicted[indices])[1],
                method(loaded.members, images, labels)[1]]  # fmt: skip
        limit = np.quantile(np.abs(maps), attribution_maps.LIMIT_QUANTILE)
        for row, values in enumerate(maps):
            expected = image_grid.overlay(
                images[1, ..., 0], values, limit, name == "integrated gradients"
            )
            np.testing.assert_allclose(drawn[2 * (1 + 2 * number + row) + 1], expected, atol=1e-3)
    texts = [text.get_text() for text in figure.axes[0].texts]
    names = [source.CLASS_NAMES[label] for label in (loaded.predicted[indices[1]], labels[1])]
    assert f"{names[0]} {loaded.probabilities[indices[1]].max():.1%}\ntrue: {names[1]}" in texts


def test_the_fraction_of_empty_maps_is_counted(loaded, monkeypatch):
    maps = np.ones((len(loaded.predicted), 28, 28))
    maps[::4] = 0
    monkeypatch.setattr(attribution, "grad_cam", lambda members, images, classes: maps)
    assert attribution_maps.empty_maps(loaded) == 0.25


def test_feature_maps_show_the_outputs_of_the_layers_in_order(loaded):
    figure = layers.feature_maps(loaded).figures["feature_maps"][0]
    drawn, test = cells(figure), loaded.dataset.test
    member = loaded.members[0]
    chosen = layers.chosen_channels(member, test.images[:60], test.labels[:60])
    shown = []
    for label in range(10):
        of_class = np.flatnonzero(test.labels == label)
        shown.append(of_class[np.argmax(loaded.predicted[of_class] == label)])
    outputs = member(test.images[shown]).convolutions  # with ReLU
    for layer, (channels, output) in enumerate(zip(chosen, outputs, strict=True)):
        values = output.numpy()[..., channels]
        for position in range(len(channels)):
            row = 1 + layers.CHANNELS * layer + position
            expected = image_grid.positive(values[4, ..., position], values.max())
            np.testing.assert_allclose(drawn[10 * row + 4], expected, atol=1e-2)


def test_the_kernels_are_drawn_in_their_order(loaded):
    layer = loaded.members[0].convolutions[0]
    figure = layers.kernels(layer, 1)
    kernel = layer.kernel.numpy()[:, :, 0]
    limit = np.abs(kernel).max()
    for channel, cell in enumerate(cells(figure)[: kernel.shape[-1]]):
        np.testing.assert_allclose(cell, image_grid.signed(kernel[..., channel], limit), atol=1e-6)


def test_the_nearest_training_images_are_the_nearest(loaded, monkeypatch):
    monkeypatch.setattr(examples, "CHUNK", 130)
    part = examples.nearest_images(loaded)
    _, rows = part.tables["nearest_images"]
    index = loaded.mistakes[1]
    train, test = loaded.dataset.train, loaded.dataset.test
    features, query = (
        activations.features(loaded.members, images)
        for images in (train.images, test.images[index : index + 1])
    )
    distances = np.linalg.norm(features - query, axis=1)
    nearest = np.argsort(distances, kind="stable")[: examples.NEIGHBOURS]
    found = [row for row in rows if row[0] == index]
    assert [row[4] for row in found] == loaded.train_indices[nearest].tolist()
    np.testing.assert_allclose([float(row[6]) for row in found], distances[nearest], rtol=1e-3)
    drawn = cells(part.figures["nearest_images"][0])[1 + examples.NEIGHBOURS :]
    for cell, image in zip(drawn, [test.images[index], *train.images[nearest]], strict=False):
        np.testing.assert_allclose(cell, image_grid.grey(image[..., 0]), atol=1e-6)


def test_results_of_an_earlier_inspection_are_removed(run):
    folder = run / "inspection"
    for name in (
        "figures/label_issues_test.png",
        "figures/patches_2.png",
        "tables/label_issues.csv",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"of another network")
    (folder / "figures/own.png").write_bytes(b"of the user")
    assert inspect_model.main([str(run)]) == 0
    remaining = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
    assert "figures/own.png" in remaining and "figures/patches.png" in remaining
    assert not remaining & {
        "figures/label_issues_test.png", "figures/patches_2.png", "tables/label_issues.csv"
    }  # fmt: skip


def test_a_set_without_label_issues_has_no_figure(loaded, monkeypatch):
    from tools.inspection import label_issues

    test = loaded.dataset.test
    sure = 0.9 * np.eye(10)[test.labels] + 0.01
    wrong = sure.copy()
    wrong[3] = 0.9 * np.eye(10)[(test.labels[3] + 1) % 10] + 0.01
    sets = {
        "training": label_issues.Predictions(*test, sure),
        "test": label_issues.Predictions(*test, wrong),
    }
    monkeypatch.setattr(label_issues, "out_of_fold_predictions", lambda *arguments: sets)
    part = label_issues.label_issues(loaded)
    assert part.results["label_issues"] == {"training": 0, "test": 1}
    assert part.figures.keys() == {"label_issues_test"}
    other = source.CLASS_NAMES[(test.labels[3] + 1) % 10]
    assert part.tables["label_issues"][1] == [
        ("test", 3, source.CLASS_NAMES[test.labels[3]], other, "0.0100", "0.9100")
    ]
    expected = int(3 in loaded.mistakes)
    assert part.results["mistakes_with_label_issue"] == expected


def test_the_networks_of_the_project_are_not_written_to(tmp_path):
    best = inspect_model.output_folder(None, runs.BEST, "runs")
    assert str(best) == "runs/inspection-best"
    linked = tmp_path / "best"
    linked.symlink_to(runs.BEST)
    assert inspect_model.output_folder(None, linked, "runs").parts[0] == "runs"
    assert inspect_model.output_folder("out", runs.BEST, "runs").name == "out"


def test_a_perfect_network_has_no_mistakes_to_show(run, monkeypatch):
    monkeypatch.setattr(
        inspected,
        "class_probabilities",
        lambda run, model, batches: np.eye(10, dtype=np.float32)[
            np.concatenate([labels.numpy().argmax(axis=1) for _, labels in batches])
        ],
    )
    assert inspect_model.main([str(run)]) == 0
    figures = {path.stem for path in (run / "inspection/figures").iterdir()}
    assert "attribution_mistakes" not in figures and "nearest_images" not in figures
    assert "makes no mistakes" in (run / "inspection/inspection.html").read_text()


def test_a_network_without_convolutions_is_an_error(run, capsys):
    network = [
        keras.Input((28, 28, 1)),
        keras_layers.Flatten(),
        keras_layers.Dense(10, activation="softmax"),
    ]
    replace_model(run, keras.Sequential(network))
    message = error([str(run)], capsys)
    assert message.startswith(f"inspect_model.py: {run / 'model.keras'} cannot be inspected: ")
    assert "no convolutions" in message and not (run / "inspection").exists()


def test_a_foreign_network_is_an_error(run, capsys):
    images = keras.Input((28, 28, 1))
    values = keras_layers.GlobalAveragePooling2D()(keras_layers.Conv2D(10, 3)(images))
    replace_model(run, keras.Model(images, keras_layers.Softmax()(values)))
    assert "it is not a sequential network" in error([str(run)], capsys)


def test_an_unfinished_run_is_an_error(run, capsys):
    (run / "checkpoint").mkdir()
    assert f"{run} is not finished. To resume: python train_cnn.py --resume" in error(
        [str(run)], capsys
    )


def test_a_folder_that_is_not_a_run_is_an_error(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    assert "is not a run directory" in error([str(tmp_path / "folder")], capsys)
    assert "is not a run directory" in error([str(ROOT / "pretrained/whole_photo")], capsys)


def test_other_data_are_an_error(run, synthetic_data_dir, monkeypatch, capsys):
    files = write_dataset(synthetic_data_dir, make_arrays(seed=5))
    monkeypatch.setattr(source, "FILES", files)
    assert "was trained on other data" in error([str(run)], capsys)


def test_too_few_test_images_of_a_class_are_an_error(run, synthetic_data_dir, monkeypatch, capsys):
    arrays = make_arrays()
    arrays[3][arrays[3] == 7] = 8
    monkeypatch.setattr(source, "FILES", write_dataset(synthetic_data_dir, arrays))
    monkeypatch.setattr(runs, "check_fingerprint", lambda *arguments: None)
    message = error([str(run)], capsys)
    assert "too few test images of the class Sneaker: 0" in message


@pytest.mark.parametrize(
    "options, message",
    [
        (["a", "b"], "several runs can be compared with --robustness only"),
        (["a", "--robustness", "--label-issues"], "exclude each other"),
        ([""], "the path is empty"),
    ],
)
def test_invalid_options_exit_with_code_2(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        inspect_model.main(options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_label_issues_are_found_and_the_networks_are_trained_once(run, monkeypatch, capsys):
    """In the synthetic data, every twentieth test label is wrong."""
    from tools.inspection import label_issues

    monkeypatch.setattr(label_issues, "FOLDS", 3)

    small = TrainConfig(
        model="dropout_cnn", recipe="classic", optimizer="adam", learning_rate=0.003,
        schedule="constant", dropout=0.0, prune_every=1, epochs=2, batch_size=50, val_size=100,
    ).to_record()  # fmt: skip
    monkeypatch.setattr(
        label_issues,
        "TrainConfig",
        lambda recipe, **options: TrainConfig(**{**small, "limit": None, **options}),
    )
    assert inspect_model.main([str(run), "--label-issues"]) == 0
    folder = run / "inspection"
    found = [int(row["index"]) for row in table(folder, "label_issues") if row["set"] == "test"]
    assert len({*found} & {*range(0, TEST, 20)}) >= 7 and len(found) < 25
    of_training = [row for row in table(folder, "label_issues") if row["set"] == "training"]
    assert len(of_training) < TRAIN // 20
    results = json.loads((folder / "inspection.json").read_text())
    assert results["label_issues"] == {"training": len(of_training), "test": len(found)}
    assert results["mistakes_with_label_issue"] <= results["mistakes"]
    assert (folder / "figures/label_issues_test.png").stat().st_size > 3000
    histories = [path.read_bytes() for path in sorted(folder.glob("folds/*/history.csv"))]
    assert len(histories) == label_issues.FOLDS

    monkeypatch.setattr(train_cnn, "train", None)  # the networks are used again
    assert inspect_model.main([str(run), "--label-issues"]) == 0
    assert [path.read_bytes() for path in sorted(folder.glob("folds/*/history.csv"))] == histories


def test_the_sprite_contains_every_image():
    from io import BytesIO

    from PIL import Image

    images = np.random.default_rng(0).random((205, 28, 28, 1))
    picture = np.asarray(Image.open(BytesIO(examples.sprite(images))))
    assert picture.shape == (3 * 28, 100 * 28)
    tile = picture[2 * 28 : 3 * 28, 4 * 28 : 5 * 28]
    np.testing.assert_array_equal(tile, 255 - np.rint(255 * images[204, ..., 0]))


@pytest.mark.slow
@pytest.mark.browser
def test_the_map_shows_the_image_under_the_pointer(browser, run):
    assert inspect_model.main([str(run)]) == 0
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    problems, requests = [], []
    page.on("pageerror", lambda error: problems.append(error))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((run / "inspection/inspection.html").as_uri())
    canvas = page.locator("#map-points")
    canvas.scroll_into_view_if_needed()
    rows = table(run / "inspection", "embedding")
    points = np.array([[float(row["tsne_x"]), float(row["tsne_y"])] for row in rows])
    low, high = points.min(axis=0), points.max(axis=0)
    box = canvas.bounding_box()
    index = int(points[:, 0].argmax())  # at the right edge, where no other image can be closer
    across, up = (points[index] - low) / (high - low)
    margin = 12 / 1216
    x = box["x"] + box["width"] * (margin + across * (1 - 2 * margin))
    y = box["y"] + box["height"] * (margin + (1 - up) * (1 - 2 * margin))
    page.mouse.move(x + 1, y)
    text = page.locator("#map-text").inner_text()
    assert text.splitlines() == [
        f"Test image {index}",
        f"label: {rows[index]['label']}",
        f"prediction: {rows[index]['predicted']}",
    ]
    drawn = page.evaluate(
        "[...document.getElementById('map-image').getContext('2d').getImageData(0, 0, 28, 28).data]"
    )
    image = data.load(val_size=100).test.images[index, ..., 0]
    np.testing.assert_allclose(
        np.reshape(drawn, (28, 28, 4))[..., 0], 255 - np.rint(255 * image), atol=1
    )
    page.select_option("#map-method", index=0)
    assert problems == [] and all(url.startswith(("file:", "data:")) for url in requests)
