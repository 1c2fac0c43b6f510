from __future__ import annotations

import shutil

import pytest

from aosa_fast.bench.instructions import TOLERANCE, counted, metric, recorded


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="there is no Valgrind")
def test_no_operator_takes_more_instructions_than_recorded():
    known = recorded()
    if not known:
        pytest.skip(f"nothing is recorded of {metric()}")
    assert counted() == pytest.approx(known, rel=TOLERANCE)
