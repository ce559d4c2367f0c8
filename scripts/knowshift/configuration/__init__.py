"""The configuration: every key with its type, default and meaning, and how a configuration is checked."""
