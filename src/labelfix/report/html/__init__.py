"""`RUN/report.html`: one file that a browser opens without a server.

In: A `Report`, decisions, neighbors and the training log.
Out: The page as text.
"""
