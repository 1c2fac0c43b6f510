"""What must be set before torch and NumPy are loaded."""

from __future__ import annotations

import os
import sys

QUIET = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "OPENBLAS_THREAD_TIMEOUT": "4"}


def quiet_threads() -> None:
    """Starts the program anew with OpenMP and BLAS threads that sleep while they wait; it is read at load only.

    Spinning threads slow a machine with another busy process by a factor of 30 or more.
    """
    if any(name not in os.environ for name in QUIET):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], QUIET | dict(os.environ))
