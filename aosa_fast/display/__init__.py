"""How explanations are shown to people: lines, notebooks, figures, comparisons, files."""
