"""The layers of the project: imports point downwards only, and a command imports nothing slow
before it parses.
"""

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
    "predict_image",
    "serve_model",
    "tune_model",
)
# The folder of a command's work, which no other command may import.
FOLDERS = dict(
    zip(
        TOOLS,
        ("comparison", "exploration", "exporting", "prediction", "serving", "tuning"),
        strict=True,
    )
)
# A module of the pipeline may import these of the pipeline; a file at the root is read on its own.
PIPELINE_IMPORTS = {
    "data": set(),
    "model": set(),
    "plots": set(),
    "train_cnn": {"data", "model"},
    "evaluate_model": {"data", "plots"},
}
FILES = [*ROOT.glob("*.py"), *(ROOT / "fmnist").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]


def imports(path):
    """Return the names of all modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def top(names):
    return {name.partition(".")[0] for name in names}


def test_the_root_holds_five_python_files():
    assert sorted(path.stem for path in ROOT.glob("*.py")) == sorted(PIPELINE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path):
    names, layer = imports(path), path.relative_to(ROOT).parts[0]
    assert not top(names) & {"tests", "benchmarks"}
    if layer == "fmnist":
        assert not top(names) & {*PIPELINE, "tools"}
    elif layer == "tools":
        used = {name.split(".")[1] for name in names if name.startswith("tools.")}
        assert not used & set(TOOLS), "a tool imports a command"
        part = path.relative_to(ROOT / "tools").parts[0].removesuffix(".py")
        own = FOLDERS.get(part, part)
        assert used <= {own}, f"{path.name} imports the work of another command"
    else:
        assert "tools" not in top(names)
        assert top(names) & set(PIPELINE) <= PIPELINE_IMPORTS[path.stem]


def test_the_path_of_modules_is_patched_nowhere():
    for path in [*FILES, *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
        ]
        assert not any(ast.unparse(node).startswith("sys.path") for node in calls), path


# What has to be imported late: Keras and TensorFlow after they are configured, a command's work
# after its options are parsed, and what only some systems or calls need.
OPTIONAL = {"ai_edge_litert", "distributed", "fcntl", "onnxruntime", "skimage"}


def late_imports(path):
    """Return the import statements inside of functions, but for those of optional packages."""
    found = []
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                    if module.partition(".")[0] not in OPTIONAL:
                        found.append(module)
    return found


def test_few_imports_are_late_outside_of_the_commands():
    commands = {*(ROOT / "tools").glob("*.py"), ROOT / "train_cnn.py", ROOT / "evaluate_model.py"}
    late = {path: late_imports(path) for path in FILES if path not in commands}
    assert sum(map(len, late.values())) < 15, {path: names for path, names in late.items() if names}


def test_the_files_of_the_root_are_short():
    lines = {name: len((ROOT / f"{name}.py").read_text().splitlines()) for name in PIPELINE}
    assert lines["model"] <= 250 and lines["train_cnn"] <= 150 and lines["evaluate_model"] <= 200


def test_train_is_one_function_in_the_order_of_the_work():
    """What a learner looks for is in sight, and stands in the order in which it happens."""
    source = (ROOT / "train_cnn.py").read_text()
    function = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "train")
    text = ast.get_source_segment(source, function)
    steps = ["data.load(", "build_model(", ".compile(", "EarlyStopping(", ".fit(", ".save_final("]
    assert [text.find(step) for step in steps] == sorted(text.find(step) for step in steps)
    assert all(step in text for step in steps)


def test_importing_a_module_changes_nothing_else():
    """Neither limits of other packages nor the environment, and no exit."""
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
def test_a_missing_package_is_one_line(command, tmp_path):
    """Without NumPy, which everything needs; --help works all the same."""
    (tmp_path / "numpy.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'numpy'\", name='numpy')"
    )
    module = command if command in PIPELINE else f"tools.{command}"
    arguments = {
        "predict_image": ["shoe.jpg"],
        "explore_data": ["--output-dir", str(tmp_path / "out")],
        "export_model": ["--run", str(ROOT / "pretrained/best")],
        "evaluate_model": ["pretrained/best"],
        "compare_models": ["dummy", "--seeds", "1", "--output-dir", str(tmp_path / "out")],
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
    assert "not installed: numpy; try: python -m pip install -r requirements.txt" in done.stderr


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_started_as_a_file_names_the_right_command(name, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / f"tools/{name}.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (
        done.returncode == 1
        and done.stderr == f"run it from the project's folder: python -m tools.{name}\n"
    )
    assert Path(ROOT, "tools", f"{name}.py").is_file()
