"""Statistics over an audit's rows, and what stands out."""
