"""Implementation of tools/finetune_photos.py."""
