"""How pictures are classified."""
