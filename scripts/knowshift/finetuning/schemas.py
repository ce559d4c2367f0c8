"""Tables of fine-tuning: optimizer steps and their speed, orders of training facts, and the cells of the grid."""

import pyarrow as pa

from knowshift.facts.schemas import FACTS

STEPS = pa.schema(
    [
        pa.field("step", pa.int32(), False, {"doc": "optimizer step, from 1"}),
        pa.field("examples", pa.int32(), False),
        pa.field("tokens", pa.int32(), False, {"doc": "tokens the model reads"}),
        pa.field("target_tokens", pa.int32(), False, {"doc": "tokens the loss is taken over"}),
        pa.field("loss", pa.float64(), False, {"doc": "mean negative log-likelihood in nats"}),
        pa.field("learning_rate", pa.float64(), False),
        pa.field("gradient_norm", pa.float64(), False, {"doc": "before clipping"}),
    ]
)

# Times have a table of their own, so that the same training gives the same table of steps, byte for byte.
SPEED = pa.schema(
    [
        pa.field("step", pa.int32(), False, {"doc": "optimizer step, from 1"}),
        pa.field("seconds", pa.float64(), False, {"doc": "that the step took"}),
        pa.field("tokens_per_second", pa.float64(), False, {"doc": "tokens the model read in a second"}),
    ]
)

# The columns follow from a fact's id alone, so an order stays the same when grades change but the facts drawn do not.
ORDERS = pa.schema([FACTS.field(name) for name in ("fact_id", "topic", "question", "object")])

CELLS = pa.schema(
    [
        pa.field("run", pa.string(), False, {"doc": "method-data-size-seed, or tuned-NAME"}),
        pa.field("method", pa.string(), False, {"doc": "tuned: fine-tuned elsewhere; columns that may be null are"}),
        pa.field("data", pa.string(), False, {"doc": "level0 … level4 or mixed; the name of a model tuned elsewhere"}),
        pa.field("size", pa.string(), True, {"doc": "training facts asked for: a number or all"}),
        pa.field("facts", pa.int64(), True, {"doc": "training facts used, or to be had where too few"}),
        pa.field("seed", pa.int32(), True),
        pa.field("state", pa.string(), False, {"doc": "run, or infeasible: fewer facts than the size"}),
    ]
)
