"""Calling a model: batches, precision, and what it turns out to be."""
