"""The tables of numbers that figures, printed tables and the page are made from."""

from collections.abc import Mapping

import pandas as pd

# Tables of numbers by name, joined over models: data frames whose column `model` tells the models apart.
Frames = Mapping[str, pd.DataFrame]
TUNED = "tuned"  # in the column `method`, and at the start of the name of a run: fine-tuned elsewhere


def trained_here(frames: Frames) -> Frames:
    """Leave out the rows about models that were fine-tuned elsewhere: they have no size, no level and no seed."""
    kept = {}
    for name, table in frames.items():
        if "method" in table:
            kept[name] = table[table["method"] != TUNED]
        elif "run" in table:
            kept[name] = table[~table["run"].astype(str).str.startswith(f"{TUNED}-")]
        else:
            kept[name] = table
    if "cells" in kept:  # whole numbers again, where those of the others were missing
        kept["cells"] = kept["cells"].astype({"facts": int, "seed": int})
    return kept


SIGNIFICANT = 0.05  # a restoration whose corrected p value (`p_corrected`) lies below this differs significantly
