import subprocess
import sys

from tests import ROOT


def test_a_message_is_printed_only_if_the_process_is_killed_or_crashes(tmp_path):
    code = (
        "import os\nfrom fmnist.training import interrupts\n"
        "with interrupts.message_if_killed('to resume: ...'): {}"
    )
    for statement, message in (
        ("os.kill(os.getpid(), 9)", "\nto resume: ...\n"),
        ("os.abort()", "\nto resume: ...\n"),
        ("raise SystemExit('an error')", "an error\n"),
        ("pass", ""),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(statement)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.stderr == message
