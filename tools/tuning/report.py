"""The report of a study: the command of the best trial, the best trials, and Optuna's figures."""

import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from optuna.visualization import matplotlib as optuna_figures

from fmnist import atomic_io, html_report
from fmnist.config import TrainConfig
from fmnist.figure_style import default_style
from tools.tuning.space import settings_of

TABLE_ROWS = 10  # trials in the table
CAPTIONS = {
    "history": "Validation accuracy of every trial, and the highest accuracy so far.",
    "importances": "Importance of each hyperparameter by PED-ANOVA: how much its value determines "
    "whether a trial is among the best.",
    "parallel_coordinates": "Hyperparameters of every trial. Darker lines have a higher validation "
    "accuracy.",
    "slices": "Validation accuracy against the value of each hyperparameter.",
}
# Plotting functions of Optuna, with the size of the figure in inches.
DRAWINGS: dict[str, tuple[Callable[..., Any], tuple[float, float]]] = {
    "history": (optuna_figures.plot_optimization_history, (9, 4.5)),
    "slices": (optuna_figures.plot_slice, (17, 4)),
    "parallel_coordinates": (optuna_figures.plot_parallel_coordinate, (15, 6)),
    "importances": (optuna_figures.plot_param_importances, (8, 4)),
}


def write(folder: Path, study: optuna.Study, best: TrainConfig) -> None:
    """Write figures and report into the folder of the study.

    Args:
        folder: folder of the study.
        study: study with at least one complete trial.
        best: config of the best trial.
    """
    states = optuna.trial.TrialState
    complete = sorted(study.get_trials(states=(states.COMPLETE,)), key=lambda trial: -trial.value)
    pruned = len(study.get_trials(states=(states.PRUNED,)))
    names = list(complete[0].params)
    rows = []
    for trial in complete[:TABLE_ROWS]:
        settings = settings_of(trial.params, names)
        rows.append([trial.number, f"{100 * trial.value:.2f}", *(settings[name] for name in names)])
    with atomic_io.atomic_writes(folder) as temporary:
        html_report.write(
            temporary,
            f"Hyperparameter search: study {study.study_name}",
            [
                html_report.paragraph(
                    f"Trials: {len(complete)} complete, {pruned} pruned. The highest validation "
                    f"accuracy is {complete[0].value:.2%}. This command trains the best trial:"
                ),
                html_report.paragraph(command(best)),
                html_report.table(["trial", "validation accuracy, %", *names], rows),
            ],
            draw(study) if len(complete) > 1 else {},
            CAPTIONS,
            bbox_inches="tight",
        )


@default_style()
def draw(study: optuna.Study) -> dict[str, Figure]:
    """Return the figures of a study by name."""
    matplotlib.use("Agg")  # prevents pyplot, which Optuna uses, from opening a window
    figures = {}
    for name, (draw_axes, inches) in DRAWINGS.items():
        with warnings.catch_warnings(action="ignore"):  # a few trials cover few values
            axes = draw_axes(study, target_name="Validation accuracy")
        axes = list(getattr(axes, "flat", [axes]))
        figures[name] = axes[0].figure
        figures[name].set_size_inches(*inches)
        for panel in figures[name].axes:
            for axis in (panel.xaxis, panel.yaxis):
                if axis.get_scale() == "log":  # by default, its tick labels are markup
                    axis.set_major_formatter(LogFormatter())
                    axis.set_minor_formatter(LogFormatter())
        if len(axes) > 1:  # tick labels of adjacent panels would overlap
            for panel in axes:
                panel.tick_params(axis="x", labelrotation=90)
                panel.xaxis.set_minor_formatter("")
    return figures


def command(config: TrainConfig) -> str:
    """Return the command that trains with a config."""
    return shlex.join(["python", "train_cnn.py", *config.to_flags()])
