"""The work of tools/serve_model.py."""
