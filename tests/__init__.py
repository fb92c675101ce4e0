"""Flat, one module for each module of the project; real PostgreSQL, Kafka and sockets."""
