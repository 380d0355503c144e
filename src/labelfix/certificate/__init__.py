"""How many labels are wrong, from samples drawn at random that people looked at.

In: a report, and the decisions on a random sample of it. Out: shares with intervals that hold
whether or not the report's probabilities are right, and ``certificate.json`` to cite.
"""

from labelfix.certificate.certificate import CERTIFICATE_NAME, Certificate, certify, drawn_for
from labelfix.certificate.inference import Share
from labelfix.certificate.sampling import AuditSample, draw_sample

__all__ = [
    "CERTIFICATE_NAME",
    "AuditSample",
    "Certificate",
    "Share",
    "certify",
    "draw_sample",
    "drawn_for",
]
