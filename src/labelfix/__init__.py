"""Find the wrong labels of a data set, say how probable each is, and write clean ones.

The public names load when they are first used, so that ``import labelfix`` costs nothing. Nothing
inside the package imports this module.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelfix.api import audit
    from labelfix.errors import LabelfixError
    from labelfix.exports.export import export
    from labelfix.pipeline.cross_fit import cross_fit
    from labelfix.pipeline.label_issues import LabelIssues, find_label_issues
    from labelfix.pipeline.probabilities import audit_pred_probs
    from labelfix.pipeline.result import AuditResult, open_run
    from labelfix.report.frame import read_report
    from labelfix.training.recorder import EvidenceRecorder

    __version__: str

__all__ = [
    "AuditResult",
    "EvidenceRecorder",
    "LabelIssues",
    "LabelfixError",
    "__version__",
    "audit",
    "audit_pred_probs",
    "cross_fit",
    "export",
    "find_label_issues",
    "open_run",
    "read_report",
]

_MODULE_OF = {
    "AuditResult": "labelfix.pipeline.result",
    "EvidenceRecorder": "labelfix.training.recorder",
    "LabelIssues": "labelfix.pipeline.label_issues",
    "LabelfixError": "labelfix.errors",
    "audit": "labelfix.api",
    "audit_pred_probs": "labelfix.pipeline.probabilities",
    "cross_fit": "labelfix.pipeline.cross_fit",
    "export": "labelfix.exports.export",
    "find_label_issues": "labelfix.pipeline.label_issues",
    "open_run": "labelfix.pipeline.result",
    "read_report": "labelfix.report.frame",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("labelfix.utils.text").version_of("labelfix")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'labelfix' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
