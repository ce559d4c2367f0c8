"""Turns raw questions or a user's table into facts, reads templates, and matches answers with objects."""
