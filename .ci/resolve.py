"""Check that all required packages have wheels for every supported system and Python.

    make resolve

uv resolves the requirements and all extras in the versions of constraints.txt, without installing
them. A subset of requirements that can be resolved together can be resolved by itself, too.
"""

import itertools
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
SYSTEMS = ("x86_64-unknown-linux-gnu", "x86_64-pc-windows-msvc", "aarch64-apple-darwin")
PYTHONS = ("3.11", "3.12", "3.13")
MACOS = "14.0"  # the oldest version for which ONNX Runtime has wheels


def requirements() -> list[str]:
    """Return the lines of requirements.txt and the requirements of all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    own = [line for line in extras if line.startswith(f"{project['name']}[")]
    return (ROOT / "requirements.txt").read_text().splitlines() + sorted({*extras} - {*own})


def resolve(target: tuple[str, str]) -> subprocess.CompletedProcess:
    """Resolve the requirements for a system and a version of Python."""
    command = [sys.argv[1], "pip", "compile", "-", "--quiet", "--only-binary", ":all:"]
    command += ["--constraint", str(ROOT / "constraints.txt"), "--no-header", "--no-annotate"]
    return subprocess.run(
        [*command, "--python-platform", target[0], "--python-version", target[1]],
        input="\n".join(requirements()),
        capture_output=True,
        text=True,
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS},
    )


def main() -> int:
    """Resolve for all systems, print the results, and return 1 if one cannot be resolved."""
    targets = list(itertools.product(SYSTEMS, PYTHONS))
    failed = False
    with ThreadPoolExecutor(len(SYSTEMS)) as pool:  # uv mostly waits for the network
        for (system, python), done in zip(targets, pool.map(resolve, targets), strict=True):
            failed |= done.returncode != 0
            result = done.stderr if done.returncode else f"{len(done.stdout.splitlines())} packages"
            print(f"{system}, Python {python}: {result}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
