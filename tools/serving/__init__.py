"""Implementation of tools/serve_model.py."""
