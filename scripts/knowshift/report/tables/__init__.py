"""The printed tables of the report."""
