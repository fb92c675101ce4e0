"""What goes over a wire: bytes for viewers and other services."""
