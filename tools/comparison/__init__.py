"""The work of tools/compare_models.py."""
