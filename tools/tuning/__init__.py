"""The work of tools/tune_model.py."""
