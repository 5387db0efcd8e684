"""The library behind the commands: it imports neither the files at the root nor the tools."""
