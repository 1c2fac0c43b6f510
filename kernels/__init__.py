"""The compiled operators of aosa_fast, each beside its float64 reference."""

if __name__ != "aosa_fast.kernels":
    raise ImportError("import aosa_fast.kernels: this folder is not the package 'kernels'")
