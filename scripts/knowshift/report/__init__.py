"""The report: figures, printed tables and the page."""
