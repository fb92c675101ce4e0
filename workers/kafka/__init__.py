"""Everything that speaks to Kafka; each client stays on one thread."""
