import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import data
import train_cnn
from benchmarks import (
    ablations,
    command_line,
    engines,
    fault_injection,
    leaderboard,
    measure_speed,
    peers,
    photo_ablation,
    real_photos,
    speed_worker,
    tables,
)
from benchmarks.processes import ProcessError, in_own_process
from fmnist import atomic_io, runs
from fmnist.config import TrainConfig
from fmnist.inference.classifier import load_photo_classifier
from fmnist.recipes import RECIPES
from fmnist.source import CLASS_NAMES
from model import build_model
from tests import ROOT


def training_row(median, **changes):
    return {
        "parameters": 10,
        "flops": 1000,
        "validated": 1000,
        "median": median,
        "spread": 0.05,
        "n": 5,
        "with_stalls": median * 1.5,
        "range_with_stalls": (median, median * 2),
        "val_accuracy": 0.85,
        "rate": 8e10,
        "batch_size": 256,
        **changes,
    }


@pytest.fixture
def results():
    titles = [
        title
        for network in measure_speed.NETWORKS
        for title in measure_speed.training_programs(network, 128)
    ]
    training = {
        title: training_row(
            100 if "this project" in title else 150,
            batch_size=int(title.rpartition(" ")[2]) if "batch size" in title else 256,
        )
        for title in titles
    }
    for network in measure_speed.NETWORKS:
        training[f"{network}, plain Keras, batch size 64"] |= {"median": 200, "with_stalls": 400}
    training["dropout_cnn, PyTorch"] = {"missing": "torch"}
    prediction = {
        name: {"evaluation": {"median": 1.5}, "p50": 0.5, "p99": 0.9}
        for name in measure_speed.PREDICTION
    }
    return {
        "processor": "a processor",
        "versions": "a Python",
        "limit": {"median": 1.6e11, "spread": 0.02},
        "training": training,
        "validated": 1000,
        "images": 11000,
        "prediction": {**prediction, "ONNX Runtime": {"missing": "onnx"}},
        "by_images": {size: 100 + size / 10000 for size in measure_speed.SIZES},
        "by_batch": dict.fromkeys(measure_speed.BATCHES, 110.0),
        "start_up": {"help": 0.2, "import": 3.0, "first_batch": 5.5},
        "make_train": {
            "start_up": 6.0,
            "data": 1.0,
            "training": 70.0,
            "total": 77.0,
            "epochs": 12,
        },
        "evaluate_model.py": 15.0,
        "memory": {"train_cnn.py": 1.3, "evaluate_model.py": 1.1},
    }


def test_there_is_a_table_of_the_speed_for_every_kind_that_was_measured(results, tmp_path):
    facts = {"commit": "abcdef0", "processor": "P", "date": "2026-11-29"}
    for kind in ("avx2", "bfloat16"):
        (tmp_path / f"speed-{kind}.json").write_text(json.dumps({**results, **facts}))
    text = tables.speed_tables(tmp_path)
    headings = [line for line in text.splitlines() if line.startswith("### ")]
    assert headings == [
        "### Processor with AVX-512 and arithmetic in bfloat16",
        "### Processor with AVX2, without AVX-512",
    ]
    assert text.count("gap_cnn, this project, default") == 2
    assert "docs/speed-avx2.json`; commit: abcdef0; processor: P" in text


def row(results, name):
    return next(
        line for line in measure_speed.table(results).splitlines() if line.startswith(f"| {name} ")
    )


def test_relative_times_are_those_of_plain_keras_at_its_best_and_as_in_tutorials(results):
    text = row(results, "gap_cnn, this project, default")
    # 100 of 150 µs without stalls, 150 of 400 µs with stalls.
    assert "| 256 | 100 (5%) | 150 (100 to 200) | 80 (50%) | 0.67 | 0.38 |" in text
    text = row(results, "gap_cnn, plain Keras")
    assert text.startswith("| gap_cnn, plain Keras | 64 | 200") and "| 1.33 | 1.00 |" in text
    assert "torch is not installed" in row(results, "dropout_cnn, PyTorch")
    assert "onnx is not installed" in row(results, "ONNX Runtime")
    assert "Epochs have 11,000 images" in measure_speed.table(results)


def test_plain_keras_and_this_project_are_measured_with_the_same_batch_sizes():
    programs = measure_speed.training_programs("gap_cnn", 128)
    assert programs == {
        "gap_cnn, plain Keras, batch size 64": ("plain_training", "gap_cnn", "64"),
        "gap_cnn, this project, batch size 64": ("project_training", "gap_cnn", "64"),
        "gap_cnn, plain Keras, batch size 128": ("plain_training", "gap_cnn", "128"),
        "gap_cnn, this project, batch size 128": ("project_training", "gap_cnn", "128"),
        "gap_cnn, this project, default": ("project_training", "gap_cnn"),
    }
    assert len(measure_speed.training_programs("gap_cnn", 64)) == 3
    assert "dropout_cnn, PyTorch" in measure_speed.training_programs("dropout_cnn", 64)


def test_the_table_of_saved_results_is_the_same(results):
    saved = json.loads(json.dumps(results))
    assert measure_speed.table(saved) == measure_speed.table(results)


def test_the_table_marks_large_spreads(results):
    results["training"]["gap_cnn, this project, default"]["spread"] = 0.31
    assert "0.67 (large spread)" in row(results, "gap_cnn, this project, default")
    assert "(large spread)" not in row(results, "batchnorm_cnn, this project, default")


def test_a_significant_difference_in_accuracy_is_reported(results):
    # Six comparisons: 2.64 standard deviations of 1.6 points.
    text = measure_speed.learning_table(results)
    assert "| gap_cnn | 128 | 516 | 85.0 | 85.0 | no (limit 4.2 points) |" in text
    own = results["training"]["gap_cnn, this project, batch size 128"]
    results["training"]["gap_cnn, this project, default"]["val_accuracy"] = 0.5  # other settings
    assert "YES" not in measure_speed.learning_table(results)
    own["val_accuracy"] = 0.75
    assert "| 85.0 | 75.0 | YES (limit " in measure_speed.learning_table(results)
    own["parameters"] = 11
    with pytest.raises(SystemExit, match="10 parameters, not 11"):
        measure_speed.learning_table(results)


def test_times_are_medians_without_stalls_and_means_with_stalls():
    epochs = [
        {"seconds": seconds, "stall": stall, "images": 1000, "val_accuracy": accuracy}
        for seconds, stall, accuracy in ((1.0, 0.0, 0.7), (1.2, 0.2, 0.8), (4.1, 3.0, 0.9))
    ]
    measured = measure_speed.training_row(epochs, flops=2000)
    assert measured["median"] == pytest.approx(1000) and measured["n"] == 3
    assert measured["with_stalls"] == pytest.approx(2100)
    assert measured["range_with_stalls"] == pytest.approx((1000, 4100))
    assert measured["rate"] == pytest.approx(2e6)
    assert measured["val_accuracy"] == 0.9


def test_networks_are_measured_one_after_the_other(monkeypatch):
    measured = []

    def measure(programs):
        measured.append(list(programs))
        epoch = {"seconds": 1.0, "stall": 0.0, "images": 1000, "val_accuracy": 0.8}
        facts = {title: {"flops": 1000, "validated": 100, "batch_size": 64} for title in programs}
        return facts, {title: [epoch] for title in programs} | {
            measure_speed.LIMIT: [{"rate": 1e9 * len(measured)}]
        }

    class OneWorker:
        def __init__(self, *program):
            assert program[0] == "plain_batch_size"

        def turn(self):
            return {"batch_size": 64}

        def stop(self):
            pass

    monkeypatch.setattr(measure_speed, "measure_in_turns", measure)
    monkeypatch.setattr(measure_speed, "Worker", OneWorker)
    results = measure_speed.measure_training()
    assert [len(titles) for titles in measured] == [6, 4, 4]  # with the matrix product
    assert all(titles[0] == measure_speed.LIMIT for titles in measured)
    assert results["limit"]["median"] == 2e9 and results["validated"] == 100
    assert len(results["training"]) == 11


def test_the_figure_has_a_bar_per_program(results):
    figure = measure_speed.figure_of(results)
    assert len(figure.axes[0].patches) == len(results["training"]) - 1  # PyTorch is missing


def test_the_spread_is_the_relative_interquartile_range():
    assert measure_speed.summary([5.0, 1, 2, 3, 4]) == {
        "median": 3,
        "spread": pytest.approx(2 / 3),
        "n": 5,
    }


def test_the_benchmark_trains_like_plain_keras():
    settings = speed_worker.SETTINGS
    assert (settings["optimizer"], settings["augment"]) == ("adam", "none")
    assert (settings["prune_every"], settings["label_smoothing"]) == (1, 0)


def test_parameters_and_floating_point_operations_are_counted():
    expected = {
        "parameters": 225_034,
        "flops": 3 * 2 * (26 * 26 * 9 * 32 + 11 * 11 * 9 * 32 * 64 + 1600 * 128 + 1280)
        - 2 * 26 * 26 * 9 * 32,
    }
    assert speed_worker.facts(build_model("dropout_cnn")) == expected


@pytest.mark.slow
def test_the_benchmark_trains_the_same_weights_as_train_cnn(synthetic_dataset, tmp_path):
    """The benchmark has its own copy of the set-up of train(); both must agree, bit for bit."""
    config = TrainConfig(
        epochs=1,
        batch_size=50,
        val_size=100,
        patience=0,
        prune_every=1,
        schedule="constant",
        runs_dir=tmp_path,
        name="run",
    )
    trained = runs.load_model(train_cnn.train(config))
    dataset = data.load(val_size=100)
    model, fast_model, training, _, _ = speed_worker.set_up(config, dataset)
    fast_model.fit(training, verbose=0, shuffle=False)
    for weight, expected in zip(model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_the_time_of_an_epoch_includes_its_stall(synthetic_dataset):
    part = data.load(val_size=100).train
    model = build_model("dropout_cnn")
    model.compile(loss="sparse_categorical_crossentropy")
    measurement = speed_worker.timed_fit(
        model,
        len(part.labels),
        x=part.images,
        y=part.labels,
        validation_data=(part.images, part.labels),
    )
    assert 0 < measurement["stall"] < measurement["seconds"] and measurement["images"] == 500


@pytest.fixture
def finished_run(tmp_path):
    model = build_model("lenet_l2")
    model.compile("adam", "categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    run = runs.create(tmp_path, "run", {})
    runs.save_epoch(run, [{**dict.fromkeys(runs.HISTORY, 1.0), "epoch": 1}])
    model.save(run / runs.MODEL)
    runs.finish(run)
    return run


def test_fault_injection_detects_changed_weights_corrupt_files_and_temporary_files(finished_run):
    reference = fault_injection.outcome(finished_run)
    fault_injection.check_run(finished_run, reference)
    assert fault_injection.same(reference, fault_injection.outcome(finished_run))

    content = (finished_run / runs.MODEL).read_bytes()
    model = runs.load_model(finished_run)
    bias = model.layers[-1].bias
    bias.assign(np.nextafter(bias, 1))
    model.save(finished_run / runs.MODEL)
    assert not fault_injection.same(reference, fault_injection.outcome(finished_run))

    (finished_run / runs.MODEL).write_bytes(content[:1000] + b"X" + content[1001:])
    with pytest.raises(fault_injection.Violation):
        fault_injection.check_run(finished_run, reference)
    (finished_run / runs.MODEL).write_bytes(content)
    runs.save_epoch(finished_run, [{**dict.fromkeys(runs.HISTORY, 0.5), "epoch": 1}])
    with pytest.raises(fault_injection.Violation):
        fault_injection.check_run(finished_run, reference)
    (finished_run / f"{atomic_io.TEMPORARY_PREFIX}1-model.keras").touch()
    with pytest.raises(fault_injection.Violation):
        fault_injection.outcome(finished_run)


def test_the_table_of_fault_injection_names_violations_and_skipped_parts():
    report = {
        "disks": {"full disks": 9, "passed": 9},
        "inputs": {"violation": "the reason"},
        "evaluations": {"skipped": "not run yet"},
        "kills": dict.fromkeys(fault_injection.KILL_COUNTS, 3),
    }
    table = fault_injection.table(report)
    assert "| 9 | 9 passed" in table
    assert "violation: the reason" in table and "skipped: not run yet" in table
    assert "3 of them after the second epoch" in table and "%" not in table
    report["overhead"] = {
        "epoch, s": 10.0,
        "saving, s": 0.15,
        "saving, fraction": 0.015,
        "µs per image": {"median": 101.0, "spread": 0.02},
        "µs per image without determinism": {"median": 100.0, "spread": 0.01},
    }
    table = fault_injection.table(report)
    assert "0.15 s of 10.0 s, which is 1.5%" in table and "+1.0% (101 and 100 µs" in table


def entry(**changes):
    return {
        "settings": {},
        "accuracy": 0.93,
        "accuracy_without_flips": 0.92,
        "accuracy_with_shifts": 0.94,
        **dict.fromkeys(leaderboard.CALIBRATION, 0.2),
        "cost": 5.0,
        "seconds": 80.0,
        "parameters": 1000,
        "epochs": 5,
        **changes,
    }


def test_the_leaderboard_has_means_and_marks_exceeded_limits():
    rows = leaderboard.summaries(
        {
            "quick": {"0": entry(), "1": entry(accuracy=0.94, cost=5.4)},
            "shortest": {"0": entry(cost=2.1, epochs=1)},
        }
    )
    assert list(rows) == ["shortest", "quick"]
    lines = leaderboard.table(rows).splitlines()
    assert lines[3].endswith(
        "| 5.2 (limit 6) | 5 | 92.00 ± 0.00 | 93.50 ± 0.71 | 94.00 ± 0.00 | 2 |"
    )
    assert lines[2].startswith(
        "| `python train_cnn.py --recipe quick --epochs 4 --val-size 2000` |"
    )
    assert lines[2].endswith("| 2.1 (limit 2, exceeded) | 1 | 92.00 | 93.00 | 94.00 | 1 |")


def test_the_table_of_the_calibration_has_a_column_for_every_score():
    values = {"loss": 0.25, "calibrated_loss": 0.24, "ece": 0.04, "calibrated_ece": 0.01}
    entries = {
        "shortest": {"0": entry(**values)},
        "quick": {"0": entry(**values), "1": entry(**values | {"ece": 0.02})},
    }
    header, _, shortest, quick = tables.calibration_table(entries).splitlines()
    assert header == "| command | loss | calibrated loss | ECE | calibrated ECE | seeds |"
    assert shortest.endswith("--val-size 2000` | 0.250 | 0.240 | 0.040 | 0.010 | 1 |")
    assert quick.endswith("± 0.000 | 0.240 ± 0.000 | 0.030 ± 0.014 | 0.010 ± 0.000 | 2 |")
    assert "` | 0.250 ± 0.000 |" in quick


def test_the_largest_row_of_the_leaderboard_is_trained_once(monkeypatch, tmp_path):
    trained = []

    def train(row, seed, runs_dir):
        trained.append((row, seed))
        return entry()

    monkeypatch.setattr(leaderboard, "train_and_score", train)
    options = ["best-large", "quick", "--seeds", "4", "--output-dir", str(tmp_path)]
    assert leaderboard.main(options) == 0
    assert trained == [("best-large", 0), *(("quick", seed) for seed in range(4))]


def test_the_leaderboard_records_the_accuracies_of_the_evaluation(finished_run, monkeypatch):
    scores = {
        "accuracy": 0.95,
        "parameters": 1000,
        "validation": {"without_shifts": {"accuracy": 0.96}},
        "without_shifts": {
            "accuracy": 0.94,
            "without_flips": {"accuracy": 0.93},
            **dict(zip(leaderboard.CALIBRATION, (0.2, 0.1, 0.04, 0.01), strict=True)),
        },
    }
    replacements = {
        leaderboard.train_or_resume: lambda config: finished_run,
        leaderboard.evaluate: lambda run, **views: scores,
    }
    monkeypatch.setattr(
        leaderboard,
        "in_own_process",
        lambda function, *rest, **views: replacements[function](*rest, **views),
    )
    monkeypatch.setattr(leaderboard, "unit_of_cost", lambda: 2.0)
    scored = leaderboard.train_and_score("quick", 0, finished_run.parent)
    assert [scored[key] for key in leaderboard.ACCURACIES] == [0.94, 0.93, 0.95]
    assert [scored[key] for key in leaderboard.CALIBRATION] == [0.2, 0.1, 0.04, 0.01]
    assert scored["val_accuracy"] == 0.96
    assert scored["cost"] == scored["seconds"] / 2 > 0
    outdated = {"settings": {**scored["settings"], "epochs": 99, "seed": 1}}
    entries = {"quick": {"0": scored, "1": outdated}, "a removed row": {}}
    assert leaderboard.up_to_date(entries) == {"quick": {"0": scored}}


def test_results_of_a_changed_recipe_are_outdated(monkeypatch):
    before = leaderboard.config_of("quick", 1).result_settings()
    assert before["model"] == "allconv_cnn" and before["seed"] == 1
    assert leaderboard.config_of("quick", 1).gives_the_same_as(before)
    monkeypatch.setitem(RECIPES["quick"], "label_smoothing", 0.2)
    changed = TrainConfig(recipe="quick", val_size=2000, seed=1)
    assert not changed.gives_the_same_as(before)
    assert changed.result_settings() == {**before, "label_smoothing": 0.2}


def test_a_setting_that_an_old_record_lacks_has_the_value_of_that_time():
    recorded = TrainConfig(epochs=3).result_settings()
    del recorded["ensemble_size"]
    assert TrainConfig(epochs=3).gives_the_same_as(recorded)
    assert not TrainConfig(epochs=3, ensemble_size=2).gives_the_same_as(recorded)


def test_ablations_compare_the_same_seeds():
    base = {
        "0": {"with flips": 93.0, "without flips": 92.0},
        "1": {"with flips": 95.0, "without flips": 94.5},
    }
    changed = {
        "0": {"with flips": 92.0, "without flips": 92.0},
        "1": {"with flips": 93.8, "without flips": 94.5},
    }
    mean, half = ablations.difference(changed, base, "with flips")
    # Student's t for one degree of freedom is 12.706; the standard error is 0.1.
    assert (mean, half) == (pytest.approx(-1.1), pytest.approx(1.2706, rel=1e-4))
    table = ablations.table({"base": {"accuracies": base}, "flips": {"accuracies": changed}})
    assert table.startswith("Baseline: `python train_cnn.py --recipe quick --val-size 10000`")
    assert "94.00 % with test-time flips and 93.25 % without" in table
    assert "| no flips | `--augment none` | -1.10 ± 1.27 | +0.00 ± 0.00 | 2 |" in table


def test_ablations_of_a_changed_recipe_are_outdated(monkeypatch):
    entries = {
        name: {"settings": ablations.config_of(name).result_settings(), "accuracies": {}}
        for name in ("base", "flips", "smoothing")
    }
    assert ablations.up_to_date(entries) == entries
    monkeypatch.setitem(RECIPES["quick"], "label_smoothing", 0.2)
    monkeypatch.setattr(ablations, "BASE", TrainConfig(recipe="quick", val_size=10_000))
    assert list(ablations.up_to_date(entries)) == ["smoothing"]


def test_the_results_in_the_documentation_are_of_the_current_recipes():
    """The benchmarks resume from these files without repeating a training."""
    entries = json.loads((ROOT / "docs/leaderboard.json").read_text())
    assert leaderboard.up_to_date(entries) == entries
    entries = json.loads((ROOT / "docs/peers.json").read_text())
    assert peers.up_to_date(entries) == entries
    entries = json.loads((ROOT / "docs/ablations.json").read_text())
    assert ablations.up_to_date(entries) == entries


def test_a_function_in_its_own_process_returns_its_result_or_raises_its_exception():
    assert in_own_process(divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        in_own_process(divmod, 7, 0)
    with pytest.raises(ProcessError, match="_exit.* killed or crashed"):
        in_own_process(os._exit, 1)


TRAINING = """
import time
from fmnist.training import interrupts
with interrupts.deferred() as received:
    print("ready", flush=True)
    while not received:
        time.sleep(0.01)
raise type(received[0])("Interrupted. The weights are saved.")
"""
WAITING = "import time; print('ready', flush=True); time.sleep(60)"


@pytest.mark.parametrize("interrupt", (signal.SIGINT, signal.SIGTERM))
@pytest.mark.parametrize(
    "code, message", ((TRAINING, "Interrupted. The weights are saved."), (WAITING, "Interrupted."))
)
def test_an_interrupt_also_ends_the_process_and_prints_its_message(code, message, interrupt):
    """A terminal sends Ctrl-C to all processes; SIGTERM reaches the first process only."""
    benchmark = f"""
import sys
from benchmarks.processes import in_own_process
from fmnist import cli
sys.exit(cli.exit_code("benchmark", lambda: in_own_process(exec, {code!r})))
"""
    with subprocess.Popen(
        [sys.executable, "-c", benchmark],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        if interrupt == signal.SIGINT:
            os.killpg(process.pid, interrupt)
        else:
            process.send_signal(interrupt)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (128 + interrupt, f"\n{message}\n")


@pytest.mark.slow
def test_pytorch_is_measured_in_a_process_without_tensorflow(real_data):
    """speed_worker.py does not import TensorFlow and receives the images from another process."""
    command = """
import sys
from benchmarks import speed_worker
from benchmarks.processes import in_own_process
(images, labels), validation = in_own_process(speed_worker.training_and_validation)
print(len(images), len(labels), len(validation[0]), "tensorflow" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "8800 8800 800 False\n"


@pytest.mark.slow
def test_a_failed_comparison_ends_the_scaling_benchmark_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", "--rounds", "1"],
        cwd=ROOT,
        env={**os.environ, "FASHION_MNIST_DIR": str(tmp_path / "missing")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "scaling.py: a comparison failed with exit code 1"


def test_engines_are_compared_with_their_own_seeds():
    entries = {
        f"{recipe}-{engine}-{seed}": {
            "settings": engines.config_of(recipe, engine, seed).result_settings(),
            "accuracy": 0.92 + seed / 100,
            "seconds": seconds,
        }
        for recipe, engine, seconds in (
            ("classic", "fast", 50),
            ("classic", "plain", 75),
            ("quick", "fast", 30),
        )
        for seed in (0, 1, 2)
    }
    assert engines.table(entries).splitlines()[2:] == [
        "| classic | fast | 93.00 ± 1.00 | 50 | 1.00 | 3 |",
        "| classic | plain | 93.00 ± 1.00 | 75 | 1.50 | 3 |",
    ]
    assert engines.up_to_date(entries) == entries
    entries["quick-fast-0"]["settings"]["epochs"] += 1
    assert entries.keys() - engines.up_to_date(entries).keys() == {"quick-fast-0"}


def test_benchmarks_of_several_rows_measure_all_rows_or_those_that_are_named(capsys):
    def parse(*arguments):
        return command_line.parse("Measure.", {"a": 1, "b": 2}, 3, "folder", list(arguments))

    assert (parse().rows, parse().seeds, str(parse().runs_dir)) == (["a", "b"], 3, "runs/folder")
    assert (parse("b", "--seeds", "1").rows, parse("b", "--seeds", "1").seeds) == (["b"], 1)
    with pytest.raises(SystemExit, match="2"):
        parse("c")
    assert "unknown row: c" in capsys.readouterr().err


def test_accuracy_against_coverage_ranks_by_confidence():
    correct, confidences = np.array([True, False, True, False]), np.array([0.9, 0.2, 0.8, 0.5])
    coverage, accuracy = real_photos.risk_coverage(correct, confidences)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert accuracy == pytest.approx([1, 1, 2 / 3, 1 / 2])


@pytest.mark.slow
def test_real_photographs_are_measured_by_set_and_kind(tmp_path, capsys):
    rows, picture = ["file,label,set,kind"], np.full((120, 120, 3), 255, np.uint8)
    picture[10:110, 45:75] = 40
    Image.fromarray(picture).save(tmp_path / "0.png")
    classifier = load_photo_classifier(str(ROOT / "pretrained/best"), "runs")
    outcome = classifier.classify([classifier.read(tmp_path / "0.png")])[0]
    right = CLASS_NAMES[outcome.probabilities.argmax()]
    wrong = next(name for name in CLASS_NAMES if name != right)
    for index, (label, kind) in enumerate([(right, "a"), (right, "b"), (wrong, "b"), (right, "b")]):
        shown = picture if index < 3 else np.full_like(picture, 255)
        Image.fromarray(shown).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,{label},home,{kind}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    output, others = tmp_path / "out", tmp_path / "others"
    others.mkdir()
    Image.new("RGB", (90, 90), "white").save(others / "white.png")
    (others / "notes.txt").write_text("no picture")
    options = ["--no-clothes", str(others), "--output-dir", str(output)]
    command = [str(tmp_path), *options, "--run", str(ROOT / "pretrained/best")]
    assert real_photos.main(command) == 0
    out = capsys.readouterr().out
    assert "| other things | 1 | – | – | 100.0 (" in out
    assert f"| {right} | 67 % of 3 |" in out
    results = json.loads((output / "results.json").read_text())["sets"]
    assert [(row["set"], row["kind"], row["pictures"]) for row in results] == [
        ("home", "", 4), ("home", "a", 1), ("home", "b", 3)
    ]  # fmt: skip
    assert [row["accuracy"] for row in results] == pytest.approx([0.5, 1, 1 / 3])
    assert results[0]["no_object"] == 0.25 and results[0]["uncertain"] >= 0.25
    for name in ("confusion_matrix", "coverage", "wrong"):
        assert (output / f"{name}.png").stat().st_size > 5000


@pytest.mark.slow
def test_the_parts_of_the_classification_of_photographs_are_compared(tmp_path, capsys, monkeypatch):
    rows, rng = ["file,label,set"], np.random.default_rng(0)
    for index, label in enumerate(("Bag", "Sneaker", "Trouser", "Bag")):
        picture = rng.integers(100, 140, (90, 90, 3), np.uint8)
        picture[30:60, 20:70] = 10
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,{label},{'home' if index < 3 else 'shop'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    asked = []

    def trained(kind, seed, training, runs_dir):
        asked.append((kind, seed))
        return ROOT / "pretrained/best"

    monkeypatch.setattr(photo_ablation, "trained", trained)
    command = [str(tmp_path), "photographs", "--seeds", "2", "--output-dir", str(tmp_path / "out")]
    assert photo_ablation.main(command) == 0
    out = capsys.readouterr().out
    assert asked == [
        (kind, seed) for seed in (0, 1) for kind in ("strong", "strong", "photo", "tuned", "tuned")
    ]
    record = json.loads((tmp_path / "out/photo_ablation.json").read_text())
    scores = record["rows"]["with the network for whole photographs"]["1"]
    assert sorted(scores) == ["home", "home, garments and bags", "shop"]
    # Two of three pictures at home are garments or bags; all have the same item.
    assert scores["home"] in (0, 1 / 3) and scores["home, garments and bags"] in (0, 1 / 2)
    assert photo_ablation.table(record) in out and out.count(" ± 0.0 |") == 15


@pytest.mark.parametrize("arguments", [[], ["photographs"]], ids=["real_photos", "photo_ablation"])
def test_labels_of_several_classes_are_rejected_in_one_line(tmp_path, capsys, arguments):
    (tmp_path / "labels.csv").write_text("file,label\n0.png,shoe\n")
    benchmark = photo_ablation if arguments else real_photos
    command = [str(tmp_path), *arguments, "--output-dir", str(tmp_path / "out")]
    assert benchmark.main(command) == 1
    err = capsys.readouterr().err
    assert "single class" in err and err.count("\n") == 1


def test_a_network_trained_on_other_photographs_is_not_compared(tmp_path, monkeypatch):
    run = runs.create(tmp_path, "tuned-0", {"photographs": "others", "init_from": "photo-0"})
    (run / runs.MODEL).touch()
    runs.finish(run)
    monkeypatch.setattr(train_cnn, "train_or_resume", lambda config: "photo-0")
    assert photo_ablation.trained("tuned", 0, "others", tmp_path) == run
    with pytest.raises(runs.RunError, match="other photographs"):
        photo_ablation.trained("tuned", 0, "photographs", tmp_path)
