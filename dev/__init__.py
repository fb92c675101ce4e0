"""What a developer runs: private services, simulator, demo. The server imports nothing from here."""
