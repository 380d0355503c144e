"""The wing that writes ``RUN/report.html``: one file that a browser opens without a server."""
