"""Explanations beside predictions, by HTTP: bounded, batched, and refused at once where there are too many."""
