"""The work of tools/predict_image.py."""
