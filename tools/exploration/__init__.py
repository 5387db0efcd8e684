"""The work of tools/explore_data.py."""
