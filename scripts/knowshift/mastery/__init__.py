"""Probing what a model knows before training, and the mastery level of every fact."""
