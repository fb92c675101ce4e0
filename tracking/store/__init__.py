"""Every SQL statement: synchronous, plain values in and out, called on executor threads only."""
