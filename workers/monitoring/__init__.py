"""How the process itself does."""
