"""The commands behind the figures of the documentation: python -m benchmarks.NAME."""
