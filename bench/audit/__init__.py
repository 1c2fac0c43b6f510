"""The suite of whole audits: speed, memory, and what their rows cost."""
