"""Sampled completions as they are stored: whole, ungraded (paper, section 3.2)."""

import pyarrow as pa

COMPLETIONS = pa.schema(
    [
        pa.field("fact_id", pa.string(), False),
        pa.field("template", pa.int16(), False, {"doc": "index in the topic's list of completion templates"}),
        pa.field("sample", pa.int16(), False),
        pa.field("text", pa.string(), False, {"doc": "what the model wrote after the template"}),
    ]
)
