"""What is recorded of every optimizer step, and how fast it was."""

import pyarrow as pa

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

# Lies beside the table of steps, which holds no times: the same training gives the same bytes.
SPEED = pa.schema(
    [
        pa.field("step", pa.int32(), False, {"doc": "optimizer step, from 1"}),
        pa.field("seconds", pa.float64(), False, {"doc": "that the step took"}),
        pa.field("tokens_per_second", pa.float64(), False, {"doc": "tokens the model read in a second"}),
    ]
)
