"""The command line: what it asks, runs, shows and says."""
