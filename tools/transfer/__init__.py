"""The implementation of tools/train_whole_photo.py."""
