import subprocess
import sys

from tests import ROOT


def test_who_dies_without_a_word_has_left_one(tmp_path):
    code = (
        "import os\nfrom fmnist.training import interrupts\n"
        "with interrupts.last_words('to go on: do this'): {}"
    )
    for end, words in (
        ("os.kill(os.getpid(), 9)", "\nto go on: do this\n"),
        ("os.abort()", "\nto go on: do this\n"),
        ("raise SystemExit('an error')", "an error\n"),
        ("pass", ""),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(end)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.stderr == words
