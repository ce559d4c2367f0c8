"""Probes what a model knows before training, and sorts facts into mastery levels."""
