"""How a network is scored."""
