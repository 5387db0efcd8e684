"""Search for the options of train_cnn.py that give the best validation accuracy, with Optuna.

    python tune_model.py                              thirty trials of dropout_cnn, an hour or two
    python tune_model.py --model allconv_cnn --trials 50 --epochs 9 --study small
    python tune_model.py --study small                a study goes on: --trials more
    python tune_model.py --storage postgresql+psycopg://user@host/studies    shared by several machines

Ends with the train_cnn.py command that trains the winner. Leaves figures/ and report.html in runs/studies/NAME.
"""

import contextlib
import json
import math
import os
import shlex
import shutil
import statistics
import sys
from pathlib import Path

import engine  # first: it says if a package is missing

import data
import files
import report
import runs
import train_cnn

# What is searched: options of train_cnn.py. Numbers as (low, high, whether on a logarithmic scale).
SPACE = {
    "learning_rate": (3e-4, 3e-2, True),
    "batch_size": [64, 128, 256],
    "schedule": ["constant", "cosine", "one-cycle"],
    "dropout": (0.0, 0.6, False),
    "l2": (1e-6, 1e-3, True),
    "width": [0.5, 1.0, 1.5, 2.0],
    "label_smoothing": (0.0, 0.15, False),
    "augment": ["none", "flip", "flip+shift"],
}
