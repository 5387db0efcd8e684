"""Library of the commands. It imports neither the modules at the root nor the tools."""
