"""Where a model comes from, loading and tokenizing."""
