"""Measure the NumPy predictor beside other programs, in one thread and in several.

    python -m benchmarks.busy_machine

Prints the mean time per image while nothing else and while other programs use all cores.
"""

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from fmnist import cli, runtime

NETWORKS = ("dropout_cnn", "allconv_cnn", "deep_cnn")
IMAGES, ROUNDS = 100, 7  # images per measurement, measurements of every kind
OTHER_PROGRAM = "import numpy as np\nmatrix = np.ones((800, 800))\nwhile True: matrix @ matrix\n"


@contextlib.contextmanager
def other_programs(count: int) -> Iterator[None]:
    """Run programs that multiply matrices without a pause."""
    programs = [subprocess.Popen([sys.executable, "-c", OTHER_PROGRAM]) for _ in range(count)]
    try:
        time.sleep(2 if count else 0)  # until they have started
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def milliseconds(predict: Callable, image: object) -> float:
    """Return the mean time of a prediction."""
    start = time.perf_counter()
    for _ in range(IMAGES):
        predict(image)
    return 1000 * (time.perf_counter() - start) / IMAGES


def measure() -> None:
    """Print a table."""
    import numpy as np

    from fmnist.inference import numpy_predictor
    from model import build_model

    image = np.random.default_rng(0).random((28, 28, 1), np.float32)
    cores, rows = runtime.available_cores(), []
    for name in NETWORKS:
        model = build_model(name)
        predictors = [numpy_predictor.predictor(model), numpy_predictor.network_predictor(model)]
        for count in (0, cores):
            with other_programs(count):
                times = [[milliseconds(p, image) for p in predictors] for _ in range(ROUNDS)]
            medians = [statistics.median(column) for column in zip(*times, strict=True)]
            rows.append((name, str(count), *(f"{median:.2f}" for median in medians)))
    head = ("network", "other programs", "one thread, ms", f"{cores} threads, ms")
    print(f"{runtime.processor()}\n\n{cli.table(head, rows)}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    cli.Parser(__doc__).parse_args(argv)

    def work() -> None:
        runtime.configure_tensorflow()
        measure()

    return cli.exit_code("busy_machine.py", work)


if __name__ == "__main__":
    sys.exit(main())
