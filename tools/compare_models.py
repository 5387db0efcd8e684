"""Compare networks, recipes, classical baselines and ablations, each with several seeds.

    python -m tools.compare_models                             all of them, three seeds each: many hours
    python -m tools.compare_models dropout_cnn quick knn       some; --help names all
    python -m tools.compare_models networks baselines --seeds 1 --limit 6000
    python -m tools.compare_models --workers 2                 two at a time, with half of the cores each
    python -m tools.compare_models --scheduler tcp://host:8786 on the workers of a Dask cluster

A comparison that was broken off goes on with the same command: what is finished is not trained again.
Leaves comparison.md, comparison.csv, figures/ and report.html in runs/comparison, beside a folder for every training: the
result.json in it is all that is needed not to train it again.
"""

import argparse
import contextlib
import csv
import importlib.util
import json
import logging
import os
import re
import shlex
import statistics
import sys
import time
import traceback
from pathlib import Path

from fmnist import runtime

import numpy as np

import data
import evaluate_model
from fmnist import atomic_io
from fmnist.evaluation import metrics
from fmnist import html_report
from fmnist import runs
import train_cnn
from fmnist.recipes import RECIPES

SCHEDULE = "--epochs 5 --schedule one-cycle --patience 0"  # the same for every network, so that it alone differs
BASELINE_NAMES = ("dummy", "logistic_regression", "linear_svm", "knn", "random_forest", "gradient_boosting", "hog_svm")
GROUPS = {
    "networks": {name: f"--model {name} {SCHEDULE}" for name in train_cnn.MODEL_NAMES},
    "recipes": {name: f"--recipe {name}" for name in RECIPES},
    "ablations": {
        "dropout_cnn-without-dropout": f"--model dropout_cnn --dropout 0 {SCHEDULE}",
        "batchnorm_cnn-without-batch-norm": f"--model batchnorm_cnn --batch-norm no {SCHEDULE}",
        "lenet_l2-without-l2": f"--model lenet_l2 --l2 0 {SCHEDULE}",
        "gap_cnn-of-1-convolution": f"--model gap_cnn --convolutions 1 {SCHEDULE}",
        "gap_cnn-of-2-convolutions": f"--model gap_cnn --convolutions 2 {SCHEDULE}",
        "gap_cnn-of-4-convolutions": f"--model gap_cnn --convolutions 4 {SCHEDULE}",
    },
    "baselines": dict.fromkeys(BASELINE_NAMES),
}
CAPTIONS = {
    "accuracy_against_cost": "Test error against the seconds of training; the bars are standard deviations over seeds.",
    "classes": "Of the test images of each class, the share that was recognised.",
    "gaps": "How much more accurate a model is on images that it was trained on than on the validation images.",
    "confusion_difference": "By how many test images two confusion matrices differ, in the mean over seeds.",
    "without": "Validation accuracy with a part of the network and without it.",
    "depth": "Validation accuracy of gap_cnn against the number of its convolutions.",
}
CONTESTANTS = {name: options for group in GROUPS.values() for name, options in group.items()}
DEPTHS = ("gap_cnn-of-1-convolution", "gap_cnn-of-2-convolutions", "gap_cnn", "gap_cnn-of-4-convolutions")
TIMED = 100  # single images, for the latency
ANSWER_SECONDS = 10  # that a scheduler may take
RESULT = "result.json"
SCORES = ("val_accuracy", "accuracy", "precision", "recall", "f1")
MEASURED = ("train_accuracy", "seconds", "latency_ms")


class CompareError(Exception):
    """The comparison cannot be made. One line, for the user."""


# One training. This runs on the worker, whichever machine that is.

def attempt(name, config):
    """Train and score a contestant, as far as that was not done before. Return None, or in a line why that failed.

    config: of train_cnn.py, with the name of the run; a baseline heeds what it says of the data and the seed.
    """
    folder = Path(config["runs_dir"]) / config["name"]
    log = folder.parent / "logs" / f"{folder.name}.log"
    try:
        with runtime.output_to(log):
            if not is_finished(folder, config):
                result = score_network(folder, config) if CONTESTANTS[name] else score_baseline(name, config)
                folder.mkdir(exist_ok=True)
                atomic_io.write_json(folder / RESULT, {"settings": train_cnn.settings(config), **result})
    except (data.DataError, runs.RunError, train_cnn.TrainingError, CompareError, ImportError, OSError) as error:
        return runtime.one_line(error)
    except MemoryError:
        return "out of memory"
    except Exception as error:  # a defect, which must not keep the others from being trained
        with runtime.output_to(log):
            traceback.print_exc()
        return f"{type(error).__name__}: {runtime.one_line(error)}; see {log}"


def is_finished(folder, config):
    """Return whether there is a result. Raises CompareError where anything in the folder is of other settings."""
    finished = (folder / RESULT).exists()
    if finished or (folder / runs.CONFIG).exists():
        recorded = load_result(folder)["settings"] if finished else runs.load_config(folder)
        if not train_cnn.same_settings(recorded, config):
            raise CompareError(f"{folder} was made with other options; choose another --output-dir, or remove it")
    return finished


def load_result(folder):
    """Raises CompareError."""
    try:
        result = json.loads((folder / RESULT).read_text())
        if not isinstance(result["settings"]["seed"], int) or not isinstance(result["parameters"], int | None):
            raise ValueError("it does not say what was trained")
        if not all(isinstance(result[key], float) for key in (*SCORES, *MEASURED)):
            raise ValueError("it holds no scores")
        if not re.fullmatch(f"[0-9]{{{data.FILES['t10k-labels-idx1-ubyte'].shape[0]}}}", result["predicted"]):
            raise ValueError("it does not hold a class for every test image")
        return result
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompareError(f"{folder / RESULT} is broken ({runtime.one_line(error)}); remove it") from None


def score_network(run, config):
    """Train or go on, evaluate, and return the result."""
    runtime.start(at_once=2)  # as train() does, before Keras is imported
    import keras

    keras.backend.clear_session()  # of the trainings before, in this process
    if not run.exists():
        train_cnn.train(config)
    elif not runs.is_finished(run):
        made_with = train_cnn.options_of(run, config.keys())
        train_cnn.train(made_with | {"data_dir": config["data_dir"]}, run)
    scores = evaluate_model.evaluate(run, config["data_dir"])
    from model import predictor

    return {"parameters": scores["parameters"], "seconds": sum(row["seconds"] for row in runs.load_history(run)),
            "latency_ms": latency(predictor(runs.load_model(run))),
            "train_accuracy": scores["train"]["accuracy"], "val_accuracy": scores["validation"]["accuracy"],
            "accuracy": scores["accuracy"], **macro_scores(scores["per_class"]),
            "predicted": digits(np.load(run / "predictions.npz")["probabilities"])}


def digits(probabilities):
    """Return the numbers of the predicted classes as a text, a digit an image."""
    return "".join(map(str, probabilities.argmax(axis=1)))


def score_baseline(name, config):
    """Fit a classifier of scikit-learn and return the result."""
    from tools.comparison.baselines import BASELINES

    runtime.start()  # which a download of the data needs
    dataset = data.load(config["data_dir"], config["val_size"], config["limit"], config["seed"])
    classifier = BASELINES[name](config["seed"])
    started = time.perf_counter()
    classifier.fit(*dataset.train)
    seconds = time.perf_counter() - started

    def answers(part):
        return np.eye(len(data.CLASS_NAMES), dtype=np.float32)[classifier.predict(part.images)]

    sample = data.Part(*(array[:evaluate_model.TRAINING_SAMPLE] for array in dataset.train))
    test, labels = answers(dataset.test), dataset.test.labels
    return {"parameters": None, "seconds": seconds, "latency_ms": latency(lambda image: classifier.predict(image[None])),
            "train_accuracy": metrics.accuracy(sample.labels, answers(sample)),
            "val_accuracy": metrics.accuracy(dataset.validation.labels, answers(dataset.validation)),
            "accuracy": metrics.accuracy(labels, test),
            **macro_scores(metrics.per_class(labels, test, data.CLASS_NAMES)), "predicted": digits(test)}


def macro_scores(per_class):
    macro = per_class["macro avg"]
    return {"precision": macro["precision"], "recall": macro["recall"], "f1": macro["f1-score"]}


def latency(predict):
    """Return the median milliseconds that one image takes."""
    images = np.random.default_rng(0).random((TIMED, *data.FILES["t10k-images-idx3-ubyte"].shape[1:], 1), np.float32)
    times = []
    for image in images:
        started = time.perf_counter()
        predict(image)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


# All trainings, here or on a cluster.

def run_all(jobs, workers=None, scheduler=None):
    """Yield the number of every job with None, or why it failed, as soon as it is over. Raises CompareError.

    jobs: arguments of attempt().
    """
    if not workers and not scheduler:
        for number, job in enumerate(jobs):
            yield number, attempt(*job)
        return
    try:
        import distributed
    except ImportError:
        raise CompareError("--workers and --scheduler need Dask; try: python -m pip install "
                           "-r requirements-sweeps.txt") from None
    from tools import compare_models  # by this name, not as __main__, the workers find it too

    with contextlib.ExitStack() as stack:
        if not scheduler:
            os.environ.update(share_of_cores(workers))  # of which the workers get a copy
            scheduler = stack.enter_context(distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=":0",
                silence_logs=logging.CRITICAL))  # it says a lot when it ends, and a training that fails is named anyway
            print(f"Dashboard: {scheduler.dashboard_link}")
        try:
            client = stack.enter_context(distributed.Client(scheduler, timeout=ANSWER_SECONDS))
        except (OSError, ValueError) as error:
            raise CompareError(f"no Dask scheduler answers at {scheduler} ({runtime.one_line(error)})") from None
        if any(threads > 1 for threads in client.nthreads().values()):
            raise CompareError("TensorFlow is one at a time in a process; start the workers with --nthreads 1")
        def finds_this():  # which travels whole, where attempt() travels by its name
            return importlib.util.find_spec("tools.compare_models") is not None

        if not all([client.run_on_scheduler(finds_this), *client.run(finds_this).values()]):
            raise CompareError("the scheduler, or a worker, does not find this project; start all of them with "
                               f"PYTHONPATH={shlex.quote(str(Path(__file__).resolve().parent.parent))}")
        if not client.nthreads():
            print(f"The scheduler at {scheduler} has no workers yet; waiting for some", flush=True)
        futures = {client.submit(compare_models.attempt, *job, pure=False): number for number, job in enumerate(jobs)}
        for future in distributed.as_completed(futures):
            error = future.exception()
            yield futures[future], future.result() if error is None else runtime.one_line(error)


def share_of_cores(workers):
    """Return the environment in which a worker keeps to its share of this machine's cores."""
    cores = max(runtime.cores() // workers, 1)
    libraries = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    return {**dict.fromkeys(libraries, str(cores)), **runtime.threads(cores, at_once=2)}


# What came of it.

def summarise(finished, labels):
    """Return a dict a contestant, the best on validation images first.

    finished: lists of results by the name of the contestant; labels: of the test images.
    """
    rows = []
    for name, results in finished.items():
        label = name
        if name == "mobilenet":
            weights = results[0]["settings"].get("weights")
            label += f" from {'scratch' if weights is None else Path(weights).name}"
        row = {"name": name, "label": label, "group": next(group for group, names in GROUPS.items() if name in names),
               "n": len(results), "parameters": results[0]["parameters"]}
        for key in (*SCORES, *MEASURED):
            values = [result[key] for result in results]
            # The time of a training that something else held up says nothing of its model.
            row[key] = statistics.median(values) if key in ("seconds", "latency_ms") else statistics.mean(values)
            row[f"{key}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
        predicted = np.array([list(map(int, result["predicted"])) for result in results])
        row["correct"] = predicted == labels
        row["confusion"] = np.mean([metrics.confusion(labels, np.eye(len(data.CLASS_NAMES))[answers])
                                    for answers in predicted], axis=0)
        row["recalls"] = row["confusion"].diagonal() / row["confusion"].sum(axis=1)
        rows.append(row)
    rows.sort(key=lambda row: -row["val_accuracy"])
    for row in rows[1:]:
        row["behind"] = metrics.difference_interval(row["correct"], rows[0]["correct"])
    return rows


def table(rows):
    """Return head and lines of the table as texts."""
    def percent(row, key):
        deviation = row[f"{key}_deviation"]
        return f"{100 * row[key]:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")

    head = ["", "validation, %", "test, %", "behind the first, 95 %", "precision, %", "recall, %", "F1, %",
            "gap, %", "parameters", "training, s", "one image, ms", "seeds"]
    lines = []
    for row in rows:
        behind = "–"
        if "behind" in row:
            difference, low, high = (100 * value for value in row["behind"])
            behind = f"{difference:+.2f} ({low:+.2f} to {high:+.2f})" + (", a tie" if low <= 0 <= high else "")
        lines.append([row["label"], *(percent(row, key) for key in ("val_accuracy", "accuracy")), behind,
                      *(percent(row, key) for key in ("precision", "recall", "f1")),
                      f"{100 * (row['train_accuracy'] - row['val_accuracy']):+.2f}",
                      f"{row['parameters']:,}" if row["parameters"] else "–",
                      f"{row['seconds']:.1f}", f"{row['latency_ms']:.2f}", row["n"]])
    return head, lines


def verdict(rows):
    """Return what is to be said of the first of the rows, and of those that it cannot be told from or is behind."""
    best = f"The most accurate on validation images is {rows[0]['label']}."
    if len(rows) == 1:
        return best
    ties = [row["label"] for row in rows[1:] if row["behind"][1] <= 0 <= row["behind"][2]]
    ahead = [row["label"] for row in rows[1:] if row["behind"][1] > 0]
    said = [f"cannot be told from {', '.join(ties)}"] * bool(ties) + [f"is behind {', '.join(ahead)}"] * bool(ahead)
    over = "images and seeds" if all(row["n"] > 1 for row in rows) else "images; with one seed it knows nothing of others"
    return f"{best} On test images it {' and '.join(said) or 'is ahead of all others'} (95 % bootstrap interval over {over})."


def write(folder, rows):
    """Write tables, figures and report."""
    head, lines = table(rows)
    figures = draw({row["name"]: row for row in rows})
    with atomic_io.whole_files(folder) as unfinished:
        (unfinished / "figures").mkdir()
        for name, figure in figures.items():
            figure.savefig(unfinished / "figures" / f"{name}.png", dpi=110)
        (unfinished / "comparison.md").write_text(
            "\n".join("| " + " | ".join(map(str, line)) + " |" for line in (head, ["---"] * len(head), *lines)) + "\n",
            encoding="utf-8")
        numbers = [key for key in rows[0] if not isinstance(rows[0][key], np.ndarray)]
        with open(unfinished / "comparison.csv", "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*numbers, "behind", "behind_low", "behind_high"], extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                behind = dict(zip(("behind", "behind_low", "behind_high"), row.get("behind", ())))
                writer.writerow({**row, "behind": None, **behind})
        (unfinished / "report.html").write_text(html_report.page(
            "Models of Fashion-MNIST compared", html_report.paragraph(verdict(rows)), html_report.table(head, lines),
            *(html_report.picture(unfinished / "figures" / f"{name}.png", CAPTIONS[name]) for name in figures)),
            encoding="utf-8", errors="xmlcharrefreplace")
    for name in CAPTIONS.keys() - figures.keys():  # of an earlier comparison, of others
        (folder / "figures" / f"{name}.png").unlink(missing_ok=True)


def draw(rows):
    """Return the figures by name. rows: by the name of the contestant."""
    import plots  # and with it matplotlib, which --help does not wait for

    first, *others = rows.values()
    # What only guesses would squeeze all others into a line.
    shown = [row for name, row in rows.items() if name != "dummy"] or [first]
    figures = {"accuracy_against_cost": plots.accuracy_against_cost([row for row in shown if row["group"] != "ablations"]
                                                                    or shown),
               "classes": plots.class_recalls({name: row["recalls"] for name, row in rows.items()}, data.CLASS_NAMES),
               "gaps": plots.gaps(shown)}
    if others:
        other = rows.get("classic", others[0])
        other = others[0] if other is first else other
        figures["confusion_difference"] = plots.confusion_difference(
            first["confusion"] - other["confusion"], data.CLASS_NAMES, first["name"], other["name"])
    pairs = {name: (rows[name.partition("-without-")[0]], row) for name, row in rows.items()
             if "-without-" in name and name.partition("-without-")[0] in rows}
    if pairs:
        figures["without"] = plots.with_and_without(pairs)
    depths = {number: rows[name] for number, name in enumerate(DEPTHS, 1) if name in rows}
    if len(depths) > 1:
        figures["depth"] = plots.depth(depths)
    return figures


def compare(config, refuse):
    """Train what is not trained yet, write the results and return the failures, as texts.

    config: a dict with every option of this script under its name, as `parse_options` returns it.
    refuse: is called with a message on impossible options.
    Raises CompareError and runs.RunError.
    """
    folder = Path(config["output_dir"]).resolve()
    names = list(dict.fromkeys(name for group in config["names"] or GROUPS
                               for name in (GROUPS[group] if group in GROUPS else [group])))
    if config["weights"] and "mobilenet" not in names:
        refuse("--weights are of mobilenet, which is not compared")
    done = all((folder / f"hog_svm-{seed}" / RESULT).exists() for seed in range(config["seeds"]))
    if "hog_svm" in names and not done and not importlib.util.find_spec("skimage"):
        print("hog_svm is left out, as scikit-image is not installed")
        names.remove("hog_svm")
    if not names:
        raise CompareError("nothing is left to compare")
    weights = weights_at_hand(config["weights"], folder / "mobilenet-0") if "mobilenet" in names else None
    jobs = []
    for seed in range(config["seeds"]):
        for name in names:
            options = {"runs_dir": folder, "name": f"{name}-{seed}", "seed": seed,
                       **{key: config[key] for key in ("val_size", "limit")}, "data_dir": absolute(config["data_dir"])}
            if CONTESTANTS[name]:
                options |= {"epochs": config["epochs"], "weights": weights if name == "mobilenet" else None}
            given = [*(CONTESTANTS[name] or "").split(), *train_cnn.flags(options)]
            jobs.append((name, train_cnn.parse_options(given, refuse)))

    finished, failures = {}, []
    for count, (number, error) in enumerate(run_all(jobs, config["workers"], config["scheduler"]), 1):
        name, job = jobs[number]
        if error is None:
            result = load_result(folder / job["name"])
            finished.setdefault(name, []).append(result)
            said = f"validation accuracy {result['val_accuracy']:.2%}, trained for {result['seconds']:.1f} s"
        else:
            said = f"failed: {error}"
            failures.append(f"{name}, seed {job['seed']}: {error}")
        print(f"[{count}/{len(jobs)}] {name}, seed {job['seed']}: {said}", flush=True)
    if not finished:
        raise CompareError(f"no training was finished; the first: {failures[0]}")
    for results in finished.values():  # which workers bring in any order
        results.sort(key=lambda result: result["settings"]["seed"])
    (*_, labels), _ = data.find(config["data_dir"])
    rows = summarise(finished, labels)
    write(folder, rows)
    print(f"\n{verdict(rows)}")
    return failures


def absolute(path):
    """Return a path, or None, so that workers in other folders find it too."""
    return path and str(Path(path).expanduser().resolve())


def weights_at_hand(weights, run):
    """Return what mobilenet starts from: what is named, else what this run started from, if it is there, else
    ImageNet's weights, or None where those cannot be had.
    """
    if weights is None and (run / RESULT).exists():
        return load_result(run)["settings"].get("weights")
    if weights is None and (run / runs.CONFIG).exists():
        return runs.load_config(run).get("weights")
    if weights != "imagenet":
        weights = absolute(weights)
    runtime.start(at_once=2)
    from model import borrowed_weights

    try:
        with data.socket_timeout():
            borrowed_weights(1, weights or "imagenet")
        return weights or "imagenet"
    except ValueError as error:
        if weights:
            raise CompareError(str(error)) from None
        print(f"mobilenet starts from scratch: {error}")


def contestant(text):
    """An argparse type: the name of a contestant or of a group."""
    if text not in GROUPS and text not in CONTESTANTS:
        raise argparse.ArgumentTypeError(f"no {text!r} is known; known are {', '.join([*GROUPS, *CONTESTANTS])}")
    return text


def parse_options(argv=None):
    """Return the options as a dict, and what refuses impossible ones."""
    parser = runtime.Parser(__doc__)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", type=contestant,
        help="; ".join(f"{group}: {', '.join(names)}" for group, names in GROUPS.items()))
    add("--seeds", type=train_cnn.number(int, 1, 1000), default=3, help="trainings each (%(default)s)")
    add("--epochs", type=train_cnn.number(int, 1, 1e6), help="of every network (its own)")
    add("--val-size", type=train_cnn.number(float, 0), help="validation images: a count, or a fraction below 1 (5000)")
    add("--limit", type=train_cnn.number(int, 1), help="use so many images for training and validation together")
    add("--weights", type=runtime.path_option, metavar="imagenet|FILE",
        help="what mobilenet starts from (imagenet where Keras has or can fetch it, else chance)")
    add("--data-dir", type=runtime.path_option,
        help="folder with the four files (FASHION_MNIST_DIR, or found and fetched by itself)")
    add("--output-dir", type=runtime.path_option, default="runs/comparison",
        help="where runs and results are written (%(default)s)")
    add("--workers", type=train_cnn.number(int, 1, 1000), help="train so many at a time, by Dask on this machine")
    add("--scheduler", metavar="ADDRESS", help="train on the workers of this Dask scheduler, which see the same folders")
    options = parser.parse_args(argv)
    if options.workers and options.scheduler:
        parser.error("--workers are of this machine, a --scheduler has its own")
    return vars(options), parser.error


def main(argv=None):
    config, refuse = parse_options(argv)

    def work():
        try:
            failures = compare(config, refuse)
        except KeyboardInterrupt as interrupt:
            raise type(interrupt)("Interrupted. The same command goes on; what is finished is kept.") from None
        print(f"Saved {Path(config['output_dir']) / 'report.html'}, comparison.md, comparison.csv and figures/")
        if failures:
            raise CompareError(f"{len(failures)} failed: {'; '.join(failures)}")
        print(f"Next: open {Path(config['output_dir']) / 'report.html'} in a browser")

    return runtime.exit_code("compare_models.py", work, (data.DataError, runs.RunError, CompareError))


if __name__ == "__main__":
    sys.exit(main())
