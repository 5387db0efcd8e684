"""The report of a study: the winner's command, the best trials, and Optuna's figures."""

import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import optuna
from matplotlib.figure import Figure
from optuna.visualization import matplotlib as optuna_figures

from fmnist import atomic_io, html_report
from fmnist.config import TrainConfig
from tools.tuning.space import settings_of

SHOWN = 10  # trials in the table
CAPTIONS = {
    "history": "Validation accuracy of every trial, and the best so far.",
    "importances": "How much each option matters for being among the best trials (PED-ANOVA).",
    "parallel_coordinates": "Every line is a trial: the darker, the more accurate.",
    "slices": "Validation accuracy against each option.",
}
# Optuna's functions, and the size of a figure in inches.
DRAWINGS: dict[str, tuple[Callable[..., Any], tuple[float, float]]] = {
    "history": (optuna_figures.plot_optimization_history, (9, 4.5)),
    "slices": (optuna_figures.plot_slice, (17, 4)),
    "parallel_coordinates": (optuna_figures.plot_parallel_coordinate, (15, 6)),
    "importances": (optuna_figures.plot_param_importances, (8, 4)),
}


def write(folder: Path, study: optuna.Study, winner: TrainConfig) -> None:
    """Write figures and report into the study's folder."""
    states = optuna.trial.TrialState
    complete = sorted(study.get_trials(states=(states.COMPLETE,)), key=lambda trial: -trial.value)
    pruned = len(study.get_trials(states=(states.PRUNED,)))
    names = list(complete[0].params)
    rows = []
    for trial in complete[:SHOWN]:
        settings = settings_of(trial.params, names)
        rows.append([trial.number, f"{100 * trial.value:.2f}", *(settings[name] for name in names)])
    with atomic_io.atomic_writes(folder) as temporary:
        html_report.write(
            temporary,
            f"The study {study.study_name}",
            [
                html_report.paragraph(
                    f"{len(complete)} trials finished, {pruned} given up early. "
                    f"The most accurate on validation images: {complete[0].value:.2%}, by"
                ),
                html_report.paragraph(command(winner)),
                html_report.table(["trial", "validation, %", *names], rows),
            ],
            draw(study) if len(complete) > 1 else {},
            CAPTIONS,
            bbox_inches="tight",
        )


def draw(study: optuna.Study) -> dict[str, Figure]:
    """Return the figures by name."""
    matplotlib.use("Agg")  # Optuna draws with pyplot, which would open a window
    figures = {}
    for name, (draw_axes, inches) in DRAWINGS.items():
        with warnings.catch_warnings(action="ignore"):  # that few trials have few values
            axes = draw_axes(study, target_name="Validation accuracy")
        axes = list(getattr(axes, "flat", [axes]))
        figures[name] = axes[0].figure
        figures[name].set_size_inches(*inches)
        if len(axes) > 1:  # side by side, where names would run into each other
            for panel in axes:
                panel.tick_params(axis="x", labelrotation=90)
    return figures


def command(winner: TrainConfig) -> str:
    """Return the command that trains the winner."""
    return shlex.join(["python", "train_cnn.py", *winner.to_flags()])
