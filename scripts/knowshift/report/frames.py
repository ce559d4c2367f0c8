"""The tables of numbers that figures, printed tables and the page are made from."""

from collections.abc import Mapping

import pandas as pd

# Tables of numbers by name, joined over models: data frames whose column `model` tells the models apart.
Frames = Mapping[str, pd.DataFrame]

SIGNIFICANT = 0.05  # a restoration whose corrected p value (`p_corrected`) lies below this differs significantly
