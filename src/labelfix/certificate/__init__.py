"""How many labels are wrong, from samples drawn at random that people looked at.

In: a report, and the decisions on a random sample of it. Out: shares with intervals that hold
whether or not the report's probabilities are right, ``certificate.json`` and ``certificate.html``
to cite, and probabilities as the looks correct them.
"""

from labelfix.certificate.certificate import (
    CERTIFICATE_NAME,
    PAGE_NAME,
    PROBABILITIES_NAME,
    Certificate,
    certify,
    drawn_for,
    write_probabilities,
)
from labelfix.certificate.inference import Share, recalibrate
from labelfix.certificate.page import write_page
from labelfix.certificate.sampling import AuditSample, draw_sample

__all__ = [
    "CERTIFICATE_NAME",
    "PAGE_NAME",
    "PROBABILITIES_NAME",
    "AuditSample",
    "Certificate",
    "Share",
    "certify",
    "draw_sample",
    "drawn_for",
    "recalibrate",
    "write_page",
    "write_probabilities",
]
