"""Audits of whole data sets: what a model looks at when it should not.

    from aosa_fast.audit import AuditRequest, AuditSettings, audit, summarize
    audit(AuditRequest(data="clips.csv", model="torchvision:r3d_18", out=Path("out"), settings=AuditSettings()))
    findings = summarize(Path("out")).findings

Names are imported when first used: the processes of a run need a part of them each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aosa_fast.lazy import lazy

if TYPE_CHECKING:
    from aosa_fast.audit.confirm.confirm import confirm_findings
    from aosa_fast.audit.driver import AuditResult, audit
    from aosa_fast.audit.exports.run import export_audit
    from aosa_fast.audit.findings.summary import summarize
    from aosa_fast.audit.request import AuditRequest
    from aosa_fast.audit.settings import AuditSettings
    from aosa_fast.audit.store.compact import load_map
    from aosa_fast.audit.store.parts import iter_rows, read_rows

__all__ = [
    "AuditRequest",
    "AuditResult",
    "AuditSettings",
    "audit",
    "confirm_findings",
    "export_audit",
    "iter_rows",
    "load_map",
    "read_rows",
    "summarize",
]

__getattr__ = lazy(
    __name__,
    {
        "AuditRequest": "request",
        "AuditResult": "driver",
        "AuditSettings": "settings",
        "audit": "driver",
        "confirm_findings": "confirm.confirm",
        "export_audit": "exports.run",
        "iter_rows": "store.parts",
        "load_map": "store.compact",
        "read_rows": "store.parts",
        "summarize": "findings.summary",
    },
)
