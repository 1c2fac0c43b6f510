"""Builds the C++ extension; everything else is in pyproject.toml."""

import sys
from glob import glob

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup

# -ffp-contract=off, of MSVC /fp:precise: without fused multiply-adds, every SIMD level gives the same bits.
flags = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-pthread"]
if sys.platform == "win32":
    flags = ["/O2", "/fp:precise"]

setup(
    ext_modules=[
        Pybind11Extension(
            "aosa_fast._C",
            sources=sorted(glob("csrc/*.cpp")),
            depends=sorted(glob("csrc/*.h")),  # listed so that the sdist carries the headers
            extra_compile_args=flags,
            cxx_std=17,
        )
    ],
    cmdclass={"build_ext": build_ext},
)
