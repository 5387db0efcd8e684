"""Classification of photos with a trained network."""
