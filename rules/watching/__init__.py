"""What a run shows while it goes on: one bar for the whole, a line per running job, failures, and how it ended."""
