"""Schemas of the tables of completions, mastery and levels.

The texts under `doc` are written into the Parquet files: a change of one changes the bytes of every table.
"""

import pyarrow as pa

from knowshift.facts.schemas import FACTS

LEVELS = (0, 1, 2, 3, 4)  # the mastery levels

# One sampled completion per row, whole and not yet graded (paper, section 3.2).
COMPLETIONS = pa.schema(
    [
        pa.field("fact_id", pa.string(), False),
        pa.field("template", pa.int16(), False, {"doc": "index in the topic's list of completion templates"}),
        pa.field("sample", pa.int16(), False),
        pa.field("text", pa.string(), False, {"doc": "what the model wrote after the template"}),
    ]
)

# One probed fact per row, with its mastery and its level.
MASTERY = pa.schema(
    [
        *FACTS,
        pa.field("mastery", pa.float64(), False, {"doc": "R, the share of completions with the object, for analysis"}),
        pa.field("level", pa.int8(), False, {"doc": "0 (R = 0) to 4, by R: of questions and analyses"}),
        pa.field("draw_level", pa.int8(), False, {"doc": "0 to 4: the level that training sets draw the fact by"}),
        pa.field(
            "half_mastery",
            pa.list_(pa.float64()),
            False,
            {"doc": "the share in either half of the completions; null for a half without completions"},
        ),
        pa.field("half_levels", pa.list_(pa.int8()), False, {"doc": "the levels that follow from either half"}),
        pa.field("successes", pa.list_(pa.int16()), False, {"doc": "completions with the object, per template"}),
        pa.field(
            "first_position",
            pa.list_(pa.int32()),
            False,
            {"doc": "per template, where the object stands earliest in a completion, in characters; -1 if in none"},
        ),
    ]
)

# The number of facts of each domain, topic, split and level.
LEVEL_COUNTS = pa.schema(
    [
        pa.field("domain", pa.string(), False),
        pa.field("topic", pa.string(), False),
        pa.field("split", pa.string(), False),
        pa.field("level", pa.int8(), False),
        pa.field("facts", pa.int64(), False, {"doc": "facts whose level, of analysis, this is"}),
        pa.field(
            "drawable",
            pa.int64(),
            False,
            {"doc": "facts that training sets may draw at this level: in-domain, train, not in test"},
        ),
    ]
)
