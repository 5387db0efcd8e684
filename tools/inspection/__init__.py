"""Implementation of tools/inspect_model.py."""
