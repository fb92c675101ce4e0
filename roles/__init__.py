"""What a process does: one module for each role, and what they have in common."""
