"""An audit's rows in the formats of other tools: to look at, to annotate, to compute with."""
