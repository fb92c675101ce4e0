"""The web pages: what `make web` built, served from memory."""
