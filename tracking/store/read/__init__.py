"""What requests and viewers ask."""
