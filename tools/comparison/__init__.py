"""Implementation of tools/compare_models.py."""
