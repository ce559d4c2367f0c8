"""Relative changes, their statistics, exact selections, and models with a part of the update undone."""
