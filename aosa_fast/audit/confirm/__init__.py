"""Whether findings hold: what they are about is hidden from the model."""
