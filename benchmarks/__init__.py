"""The commands behind the figures of the documentation: python -m benchmarks.NAME."""

from fmnist import runtime

runtime.import_matplotlib()  # before a benchmark imports it
