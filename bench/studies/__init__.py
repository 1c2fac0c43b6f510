"""Studies of what explanations are worth, `python -m aosa_fast.bench.studies.NAME --help`; no suite has them.

They take data or networks of the user's own, and what they measure is no time.
"""
