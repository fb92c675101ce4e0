"""What goes wrong in production, done on purpose, with proof that nothing was lost."""
