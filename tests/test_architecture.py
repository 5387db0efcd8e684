"""Tests of the architecture: direction of imports, late imports, length of the root files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

PIPELINE = ("data", "evaluate_model", "model", "plots", "train_cnn")
TOOLS = (
    "compare_models",
    "explore_data",
    "export_model",
    "finetune_photos",
    "inspect_model",
    "predict_image",
    "serve_model",
    "train_segmentation",
    "train_whole_photo",
    "tune_model",
)
# The folder with the implementation of each command, which other commands may not import.
FOLDERS = dict(
    zip(
        TOOLS,
        (
            "comparison",
            "exploration",
            "exporting",
            "finetuning",
            "inspection",
            "prediction",
            "serving",
            "segmenting",
            "transfer",
            "tuning",
        ),
        strict=True,
    )
)
# The pipeline modules that a pipeline module may import.
PIPELINE_IMPORTS = {
    "data": set(),
    "model": set(),
    "plots": set(),
    "train_cnn": {"data", "model"},
    "evaluate_model": {"data", "plots"},
}
FILES = [*ROOT.glob("*.py"), *(ROOT / "fmnist").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]


def imports(path):
    """Return the names of all modules that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def top_level(names):
    """Return the top-level packages of module names."""
    return {name.partition(".")[0] for name in names}


def test_the_root_folder_contains_five_python_files():
    assert sorted(path.stem for path in ROOT.glob("*.py")) == sorted(PIPELINE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path):
    names, layer = imports(path), path.relative_to(ROOT).parts[0]
    assert not top_level(names) & {"tests", "benchmarks"}
    if layer == "fmnist":
        assert not top_level(names) & {*PIPELINE, "tools"}
    elif layer == "tools":
        used = {name.split(".")[1] for name in names if name.startswith("tools.")}
        assert not used & set(TOOLS), f"{path.name} imports another command"
        command_or_folder = path.relative_to(ROOT / "tools").parts[0].removesuffix(".py")
        assert used <= {FOLDERS.get(command_or_folder, command_or_folder)}, (
            f"{path.name} imports the implementation of another command"
        )
    else:
        assert "tools" not in top_level(names)
        assert top_level(names) & set(PIPELINE) <= PIPELINE_IMPORTS[path.stem]


def test_no_file_changes_sys_path():
    for path in [*FILES, *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        attributes = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
        ]
        assert not any(ast.unparse(node).startswith("sys.path") for node in attributes), path


# Packages that are not installed on every system. Functions may import them when they are called.
OPTIONAL = {
    "ai_edge_litert",
    "cleanlab",
    "distributed",
    "fcntl",
    "onnxruntime",
    "resource",
    "skimage",
    "tensorboard",
}


def late_imports(path):
    """Return the modules that are imported inside functions, except optional packages."""
    found = []
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                    if module.partition(".")[0] not in OPTIONAL:
                        found.append(module)
    return found


def test_only_commands_import_many_modules_inside_functions():
    commands = {*(ROOT / "tools").glob("*.py"), ROOT / "train_cnn.py", ROOT / "evaluate_model.py"}
    late = {path: late_imports(path) for path in FILES if path not in commands}
    assert sum(map(len, late.values())) < 15, {path: names for path, names in late.items() if names}


def test_the_root_files_are_short():
    lines = {name: len((ROOT / f"{name}.py").read_text().splitlines()) for name in PIPELINE}
    assert lines["model"] <= 270 and lines["train_cnn"] <= 150 and lines["evaluate_model"] <= 200


def test_train_contains_all_training_steps_in_order():
    """A learner finds the steps in the order in which they run."""
    source = (ROOT / "train_cnn.py").read_text()
    function = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "train")
    text = ast.get_source_segment(source, function)
    steps = ["data.load(", "build_model(", ".compile(", "EarlyStopping(", ".fit(", ".save_final("]
    assert [text.find(step) for step in steps] == sorted(text.find(step) for step in steps)
    assert all(step in text for step in steps)


def test_importing_a_module_has_no_side_effects():
    """The limits of Pillow, the environment variables and the warning filters stay unchanged."""
    code = (
        "import os, warnings\nimport numpy\nfrom PIL import Image\nfrom scipy import ndimage\n"
        "before = Image.MAX_IMAGE_PIXELS, dict(os.environ), list(warnings.filters)\n"
        "from fmnist import cli, config, runs, runtime, source\n"
        "from fmnist.inference import photo\n"
        "import train_cnn, evaluate_model\n"
        f"from tools import {', '.join(TOOLS)}\n"
        "assert before == (Image.MAX_IMAGE_PIXELS, dict(os.environ), list(warnings.filters))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("command", [*TOOLS, "train_cnn", "evaluate_model"])
def test_a_missing_package_causes_a_one_line_error(command, tmp_path):
    """NumPy is missing, which all commands need. --help works without it."""
    (tmp_path / "numpy.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'numpy'\", name='numpy')"
    )
    module = command if command in PIPELINE else f"tools.{command}"
    arguments = {
        "predict_image": ["shoe.jpg"],
        "explore_data": ["--output-dir", str(tmp_path / "out")],
        "export_model": ["--run", str(ROOT / "pretrained/best")],
        "inspect_model": [str(ROOT / "pretrained/best"), "--output-dir", str(tmp_path / "out")],
        "evaluate_model": ["pretrained/best"],
        "compare_models": ["dummy", "--seeds", "1", "--output-dir", str(tmp_path / "out")],
        "finetune_photos": ["photos"],
        "train_segmentation": ["photos", "--output", str(tmp_path / "model.keras")],
        "train_whole_photo": ["photos", "--output-dir", str(tmp_path / "whole")],
    }.get(command, [])

    def run(*options):
        return subprocess.run(
            [sys.executable, "-m", module, *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        )

    assert run("--help").returncode == 0
    done = run(*arguments)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "not installed: numpy; run: python -m pip install -r requirements.txt" in done.stderr


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_that_is_run_as_a_file_prints_the_right_command(name, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / f"tools/{name}.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (
        done.returncode == 1
        and done.stderr == f"start this command in the project's folder: python -m tools.{name}\n"
    )
    assert Path(ROOT, "tools", f"{name}.py").is_file()
