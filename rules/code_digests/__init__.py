"""Digests of the code that makes a rule's result."""
