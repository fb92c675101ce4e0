"""Erasure: what of a booking, or of a runner, is deleted, and what is left to know it by."""
