"""Benchmarks that check every answer before they time it: the command `aosa-fast bench`, and the figures on record."""

if __name__ != "aosa_fast.bench":
    raise ImportError("import aosa_fast.bench: this folder is no package of its own")
