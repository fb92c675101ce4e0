"""What is still to go out to other services."""
