"""Implementation of tools/explore_data.py."""
