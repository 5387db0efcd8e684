"""Implementation of tools/predict_image.py."""
