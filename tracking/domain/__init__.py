"""What happens on a trip, as values and pure functions: no database, no network."""
