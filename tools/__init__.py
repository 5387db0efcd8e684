"""Commands around the pipeline: python -m tools.NAME."""
