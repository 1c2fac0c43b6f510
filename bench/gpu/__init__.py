"""The suites on a CUDA device."""
