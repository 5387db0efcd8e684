"""Implementation of tools/export_model.py."""
