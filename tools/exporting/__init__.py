"""The work of tools/export_model.py."""
