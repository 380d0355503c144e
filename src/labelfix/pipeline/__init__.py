"""One flow from three entrances, samples, embeddings and given probabilities, to a report.

In: A data set of any modality, or files of probabilities.
Out: A RUN folder and its `AuditResult`.
"""
