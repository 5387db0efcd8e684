"""Check that all required packages have wheels for every supported system and Python.

    make resolve

uv resolves the requirements and all extras in the versions of constraints.txt, without installing
them. A subset of requirements that can be resolved together can be resolved by itself, too.
"""

import os
import subprocess
import sys
import tomllib
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


def main() -> int:
    """Resolve for all systems, print the results, and return 1 if one cannot be resolved."""
    command = [sys.argv[1], "pip", "compile", "-", "--quiet", "--only-binary", ":all:"]
    command += ["--constraint", str(ROOT / "constraints.txt"), "--no-header", "--no-annotate"]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS}
    failed = False
    for system in SYSTEMS:
        for python in PYTHONS:
            done = subprocess.run(
                [*command, "--python-platform", system, "--python-version", python],
                input="\n".join(requirements()),
                capture_output=True,
                text=True,
                env=environment,
            )
            failed |= done.returncode != 0
            result = done.stderr if done.returncode else f"{len(done.stdout.splitlines())} packages"
            print(f"{system}, Python {python}: {result}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
