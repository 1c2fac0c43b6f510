"""Explanations beside a stream: of its newest frames, again and again, and never more than a window behind."""
