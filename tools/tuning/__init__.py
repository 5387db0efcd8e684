"""Implementation of tools/tune_model.py."""
