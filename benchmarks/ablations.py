"""What every trick of a recipe is worth: train it with and without each, and print the table of docs/ablations.md.

    python -m benchmarks.ablations                  all of them, hours
    python -m benchmarks.ablations muon flips       some

Both sides of a difference have the same seeds, and so the same images to train on and to validate; the test
images are not read. Writes ablations.md, and ablations.json after every training: what is in there is not
trained again, and a training that was broken off goes on.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
import data
from fmnist import runtime
from fmnist import atomic_io
from fmnist.evaluation import metrics
from fmnist import runs
from benchmarks.results_table import same, settings, train

BASE = "--recipe quick --val-size 10000"
SEEDS = 3


class Change(NamedTuple):
    what: str     # in words
    options: str  # of train_cnn.py, beside BASE


CHANGES = {
    "muon": Change("AdamW instead of Muon", "--optimizer adam --learning-rate 0.015"),
    "one-cycle": Change("cosine without a warm-up instead of one-cycle", "--schedule cosine"),
    "flips": Change("no flips", "--augment none"),
    "focus": Change("6 epochs of all images, instead of 10 that skip every other easy one", "--easy-every 1 --epochs 6"),
    "smoothing": Change("no label smoothing", "--label-smoothing 0"),
    "decay": Change("no weight decay", "--weight-decay 0"),
    "average": Change("the moving average of the weights over half an epoch", "--ema-epochs 0.5"),
    "dropout": Change("dropout of 0.2 before the last layer", "--dropout 0.2"),
    "shifts": Change("shifts by up to a pixel", "--augment flip+shift"),
    "erasing": Change("shifts, and random erasing", "--augment flip+shift+erase"),
}


def options_of(name):
    return [*BASE.split(), *(CHANGES[name].options.split() if name in CHANGES else [])]


def up_to_date(entries):
    """Return the entries whose options mean now what they meant: a difference is of one recipe only."""
    return {name: entry for name, entry in entries.items() if same(entry["settings"], options_of(name))}


def accuracies(run):
    """Return the accuracies of a run on its validation images, in percent, with and without test-time flips."""
    runtime.start()
    config, model = runs.load_config(run), runs.load_model(run)
    images, labels = data.load(val_size=config["val_size"], seed=config["seed"]).validation
    plain, mirrored = (model.predict(which, batch_size=250, verbose=0) for which in (images, images[:, :, ::-1]))
    return {"with flips": 100 * metrics.accuracy(labels, plain + mirrored),
            "without flips": 100 * metrics.accuracy(labels, plain)}


def difference(changed, base, key):
    """Return the mean of the differences over the seeds, and half its 95 % interval by Student's t."""
    from scipy.stats import t

    each = [changed[seed][key] - base[seed][key] for seed in changed]
    half = t.ppf(0.975, len(each) - 1) * statistics.stdev(each) / len(each) ** 0.5 if len(each) > 1 else float("nan")
    return statistics.mean(each), half


def table(entries):
    """Return the differences as Markdown, the most harmful change first."""
    base = entries["base"]["accuracies"]
    accuracy = statistics.mean(entry["with flips"] for entry in base.values())
    gains = [entry["with flips"] - entry["without flips"] for entry in base.values()]
    rows = {name: [difference(entry["accuracies"], base, key) for key in ("with flips", "without flips")]
            for name, entry in entries.items() if name != "base"}
    lines = [f"`{BASE}` reaches {accuracy:.2f} % of the validation images with test-time flips, "
             f"mean of {len(base)} seeds; {statistics.mean(gains):.2f} less without test-time flips.", "",
             "| changed | options | difference, points | without test-time flips | seeds |", "|---|---|---|---|---|"]
    for name, differences in sorted(rows.items(), key=lambda row: row[1]):
        change, n = CHANGES[name], len(entries[name]["accuracies"])
        points = " | ".join(f"{mean:+.2f} ± {half:.2f}" for mean, half in differences)
        lines.append(f"| {change.what} | `{change.options}` | {points} | {n} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("changes", nargs="*", metavar="CHANGE", help=f"of {', '.join(CHANGES)} (all)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="trainings of each (%(default)s)")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/ablations"), help="(%(default)s)")
    parser.add_argument("--output-dir", type=Path, default=ROOT / "benchmarks/results", help="(%(default)s)")
    options = parser.parse_args()
    if unknown := {*options.changes} - {*CHANGES}:
        parser.error(f"no such change: {', '.join(sorted(unknown))}")
    options.output_dir.mkdir(parents=True, exist_ok=True)
    record = options.output_dir / "ablations.json"
    entries = up_to_date(json.loads(record.read_text())) if record.exists() else {}
    for name in ("base", *(options.changes or CHANGES)):
        entry = entries.setdefault(name, {"settings": settings(options_of(name)), "accuracies": {}})
        for seed in map(str, range(options.seeds)):
            if seed not in entry["accuracies"]:
                run = options.runs_dir / f"{name}-{seed}"
                train(run, [*options_of(name), "--seed", seed])
                entry["accuracies"][seed] = accuracies(run)
                atomic_io.write_json(record, entries)
    (options.output_dir / "ablations.md").write_text(table(entries))
    print(f"\n{table(entries)}\nSaved {options.output_dir}/ablations.md and ablations.json")


if __name__ == "__main__":
    main()
