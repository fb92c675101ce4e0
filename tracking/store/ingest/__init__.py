"""The transaction that stores a batch of events."""
