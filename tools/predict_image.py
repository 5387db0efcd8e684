"""Tell what garment is on pictures, JPEG, PNG or WebP, on a ground of any colour.

    python -m tools.predict_image shoe.jpg                         by the newest finished run, else by pretrained/best
    python -m tools.predict_image photos/ --run runs/my_run --figure
    python -m tools.predict_image shoe.jpg shirt.png --json > answers.json

A picture is cut out, centred and greyed first (photo.py). It is called unsure where that may have failed, or where it is
unlike all that the network was trained on: the answer is its best guess all the same.
"""

import contextlib
import functools
import itertools
import json
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from fmnist import runtime

import numpy as np

from fmnist.training import augmentation
import data
import evaluate_model
from fmnist import atomic_io
from fmnist.evaluation import metrics
from fmnist.evaluation import ood
from fmnist.inference import photo
from fmnist import runs

PRETRAINED = Path(__file__).parent.parent / "pretrained" / "best"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
BATCH = 256
GUESSES = 3
ON_A_FIGURE = 6
STRANGE = "it is unlike the images that the network was trained on"


class PredictError(Exception):
    """No picture could be read. One line, for the user."""


class Classifier(NamedTuple):
    """A network and the way that it was evaluated, which is how it answers here.

    flips, shifts: of augmentation.views(); temperature: 1 if it was not evaluated; known: of ood.fit(), None if it was not.
    """

    run: Path
    model: object
    flips: bool
    shifts: bool
    temperature: float
    known: ood.Novelty | None

    def probabilities(self, images, predict=None):
        """Return the probabilities (N, 10) of images (N, 28, 28, 1).

        predict: what computes those of the network, if it is not to be model.predict.
        """
        predict = predict or (lambda images: self.model.predict(images, batch_size=BATCH, verbose=0))
        answers = [predict(view) for view in augmentation.views(images, self.flips, self.shifts)]
        return metrics.calibrated(np.mean(answers, axis=0), self.temperature)

    def doubts(self, photos, images, probabilities):
        """Return for every photo a list of reasons to doubt the answer."""
        strange = np.zeros(len(photos), bool)
        if self.known is not None:
            strange = ood.is_novel(self.known, images, probabilities)
        return [photo.doubts + [STRANGE] * bool(novel) for photo, novel in zip(photos, strange)]


def load_classifier(run):
    """Return the Classifier of a run. Raises runs.RunError."""
    runs.load_config(run)
    runtime.start()
    model, evaluated = runs.load_model(run), load_evaluation(run)
    evaluate_model.check_model(run, model)
    if evaluated is None:
        return Classifier(run, model, False, False, 1, None)
    return Classifier(run, model, evaluated["test_time_flips"], evaluated["test_time_shifts"],
                      evaluated["temperature"], load_novelty(run, evaluated))


def load_evaluation(run):
    """Return what evaluate_model.py found, None where it has not been since the last epoch. Raises runs.RunError."""
    path = run / evaluate_model.METRICS
    if not path.exists():
        return None
    try:
        evaluated = {"test_time_shifts": False, **json.loads(path.read_text())}  # which earlier versions did not have
        if not 0.1 < evaluated["temperature"] < 10:
            raise ValueError("its temperature is impossible")
        if not all(isinstance(evaluated[option], bool) for option in evaluate_model.VIEWS):
            raise ValueError("it does not say how the network is asked")
        return evaluated if evaluated["epochs"] == len(runs.load_history(run)) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise runs.RunError(f"{path} is broken ({runtime.one_line(error)}); make it again with: "
                            f"python evaluate_model.py {shlex.quote(str(run))}") from None


def load_novelty(run, evaluated):
    """Return the Novelty of a run. evaluated: of load_evaluation(). Raises runs.RunError."""
    path = run / evaluate_model.NOVELTY
    try:
        with np.load(path, allow_pickle=False) as saved:
            known = ood.Novelty(**saved)
        blank = np.zeros((1, *photo.SHAPE), np.float32), np.zeros((1, len(data.CLASS_NAMES)), np.float32)
        ood.is_novel(known, *blank)  # which arrays of other shapes do not allow
        if not all(np.isfinite(array).all() for array in known):
            raise ValueError("it holds what is no number")
        return known
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged archive makes NumPy raise
        options = "".join(f" --{option.replace('_', '-')}" for option in evaluate_model.VIEWS if evaluated[option])
        raise runs.RunError(f"{path} is missing or broken ({runtime.one_line(error)}); make it with: "
                            f"python evaluate_model.py {shlex.quote(str(run))}{options}") from None


def classify(classifier, photos, predict=None):
    """Return the probabilities (N, 10) of photos, and for each of them a list of reasons to doubt the answer."""
    images = np.stack([each.image for each in photos])
    probabilities = classifier.probabilities(images, predict)
    return probabilities, classifier.doubts(photos, images, probabilities)


def answer(probabilities, doubts):
    """Return what is said of one picture, as JSON has it. probabilities: (10,)."""
    best = np.argsort(-probabilities, kind="stable")[:GUESSES]
    guesses = [{"label": data.CLASS_NAMES[each], "confidence": round(float(probabilities[each]), 4)} for each in best]
    return {**guesses[0], "guesses": guesses, "unsure": bool(doubts), "doubts": doubts}


def predict(paths, classifier, figures=None):
    """Return the answers to picture files, and of those that cannot be read why, both by their path.

    figures: a folder for them; none where it is None.
    """
    answers, broken, drawn = {}, {}, []
    for start in range(0, len(paths), BATCH):
        photos = {}
        for path in track(paths[start:start + BATCH], f"Pictures from {start + 1:,} of {len(paths):,}"):
            try:
                photos[path] = photo.read(path)
            except (photo.PhotoError, OSError) as error:
                broken[path] = getattr(error, "strerror", None) or runtime.one_line(error)
        if not photos:
            continue
        probabilities, doubts = classify(classifier, list(photos.values()))
        answers |= {path: answer(*each) for path, *each in zip(photos, probabilities, doubts)}
        if figures:
            drawn += zip(photos.items(), probabilities)
    if drawn:
        draw(figures, drawn, answers)
    return answers, broken


def draw(folder, drawn, answers):
    """Write figures of a few photographs each. drawn: pairs of (path, Photo) and probabilities."""
    import plots  # and with it matplotlib, which --help does not wait for

    with atomic_io.whole_files(folder) as unfinished:
        pages = range(0, len(drawn), ON_A_FIGURE)
        for page, start in enumerate(track(pages, "Figures"), 1):
            part = drawn[start:start + ON_A_FIGURE]
            figure = plots.photographs([each for (_, each), _ in part], [probabilities for _, probabilities in part],
                                       [f"{path.name}{' (unsure)' * answers[path]['unsure']}" for (path, _), _ in part],
                                       data.CLASS_NAMES)
            figure.savefig(unfinished / f"predictions-{page}.png", dpi=110)
    for page in itertools.count(len(pages) + 1):  # of an earlier call, with more pictures
        if not (path := folder / f"predictions-{page}.png").exists():
            break
        path.unlink()


def track(items, description):
    """Return the items, with a bar on the terminal where they are many."""
    from rich.console import Console
    from rich.progress import track

    return track(items, description, console=Console(stderr=True), transient=True,
                 disable=len(items) < 20 or not sys.stderr.isatty())


def pictures(names):
    """Return the paths of files, and of the pictures in folders, which are searched to their depth. Raises PredictError."""
    found = []
    for path in map(Path, names):
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES)
            if not inside:
                raise PredictError(f"{path} holds no {', '.join(SUFFIXES)} file, or cannot be read")
            found += inside
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def chosen_run(run, runs_dir):
    """Return the path of what is named, else of the newest finished run, else of what comes with the project.

    Raises runs.RunError.
    """
    if run:
        return Path(run)
    with contextlib.suppress(runs.RunError):
        return runs.newest(runs_dir)
    if not PRETRAINED.is_dir():
        raise runs.RunError(f"no finished run in {runs_dir} and no {PRETRAINED}; train one with: python train_cnn.py")
    return PRETRAINED


def print_table(answers):
    width = max((len(str(path)) for path in answers), default=0)
    for path, said in answers.items():
        best, *others = (f"{guess['label']} {guess['confidence']:.1%}" for guess in said["guesses"])
        print(f"{str(path):{width}}  {best:19}  ({', '.join(others)})" + "".join(f"; unsure: {d}" for d in said["doubts"][:1]))


def add_run_options(parser):
    parser.add_argument("--run", type=runtime.path_option, help="run directory (the newest finished one, else pretrained/best)")
    parser.add_argument("--runs-dir", type=runtime.path_option, default="runs",
                        help="where to look for the newest run (%(default)s)")


def parse_options(argv=None):
    parser = runtime.Parser(__doc__)
    add = parser.add_argument
    add("pictures", nargs="+", type=runtime.path_option, metavar="FILE|FOLDER", help="pictures, or folders of them")
    add_run_options(parser)
    add("--json", action="store_true", help="print a list of objects instead of a table")
    add("--figure", action="store_true", help="draw every picture, what the network saw of it, and the probabilities")
    add("--output-dir", type=runtime.path_option, default="runs/predictions", help="where --figure draws (%(default)s)")
    return parser.parse_args(argv)


def main(argv=None):
    options = parse_options(argv)
    say = functools.partial(print, file=sys.stderr if options.json else sys.stdout)

    def work():
        paths = pictures(options.pictures)
        run = chosen_run(options.run, options.runs_dir)
        say(f"Run: {run}")
        classifier = load_classifier(run)
        if classifier.known is None:
            say("Confidences are not calibrated, and nothing strange is recognised, before: "
                f"python evaluate_model.py {shlex.quote(str(run))}")
        folder = Path(options.output_dir)
        answers, broken = predict(paths, classifier, folder if options.figure else None)
        if options.json:
            print(json.dumps([{"file": str(path), **said} for path, said in answers.items()], indent=2))
        else:
            print_table(answers)
        for path, reason in broken.items():
            print(f"predict_image.py: {path}: {runtime.one_line(reason)}", file=sys.stderr)
        if not answers:
            raise PredictError("no picture could be read")
        if options.figure:
            say(f"Saved {folder}/predictions-1.png" + " and more" * (len(answers) > ON_A_FIGURE))
        else:
            say("Next: the same command with --figure shows what the network saw")

    return runtime.exit_code("predict_image.py", work, (runs.RunError, PredictError))


if __name__ == "__main__":
    sys.exit(main())
