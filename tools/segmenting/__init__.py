"""Implementation of tools/train_segmentation.py."""
