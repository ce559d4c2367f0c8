"""Schemas of the tables of facts.

The texts under `doc` are written into the Parquet files: a change of one changes the bytes of every table.
"""

import pyarrow as pa

from knowshift.facts.source_rows import SPLITS

# One fact per row.
FACTS = pa.schema(
    [
        pa.field("fact_id", pa.string(), False, {"doc": "hash of topic, split, question and object"}),
        pa.field("topic", pa.string(), False, {"doc": "relation id, such as P36"}),
        pa.field("domain", pa.string(), False, {"doc": "in_domain or out_of_domain"}),
        pa.field("split", pa.string(), False, {"doc": "train, dev or test"}),
        pa.field("subject", pa.string(), False),
        pa.field("object", pa.string(), False, {"doc": "the one right answer"}),
        pa.field(
            "aliases", pa.list_(pa.string()), False, {"doc": "other names of the object, from the fact's own row"}
        ),
        pa.field("question", pa.string(), False),
        pa.field("also_in_test", pa.bool_(), False, {"doc": "a train fact whose question is also a test question"}),
    ]
)

# The facts of one topic by split, and the rows that were left out; also the metadata of its table of facts.
FACT_COUNTS = pa.schema(
    [
        pa.field("topic", pa.string(), False),
        pa.field("domain", pa.string(), False),
        *[pa.field(split, pa.int64(), False, {"doc": "facts of this split"}) for split in SPLITS],
        pa.field("also_in_test", pa.int64(), False, {"doc": "train facts that are never drawn: test asks them too"}),
        pa.field("several_answers", pa.int64(), False, {"doc": "rows left out: more than one answer"}),
        pa.field("repeated", pa.int64(), False, {"doc": "rows left out: an earlier row has the question"}),
        pa.field("bad_rows", pa.int64(), False, {"doc": "rows left out: something is wrong with them"}),
    ]
)
