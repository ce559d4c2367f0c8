"""Estimates of what an experiment will take before it runs: jobs, tokens, disk, GPUs and time."""
