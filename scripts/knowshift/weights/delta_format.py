"""The name of the format of deltas, in a module of its own: the rules read it and need no numpy for that."""

DELTA_FORMAT = "knowshift-delta-2"  # change it whenever the bytes of a delta change: deltas are then made again
