"""Raw questions or a user's table become facts; templates, and matching of answers."""
