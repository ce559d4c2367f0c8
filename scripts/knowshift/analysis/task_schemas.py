"""The table of the trade between knowledge and the tasks that a model has to go on doing."""

import pyarrow as pa

from knowshift.analysis.fields import BOOL, CELL, COUNT, MAYBE_RESTORED, REAL, SEEDS, TEXT, field, interval_fields

TASK_TRADE = pa.schema(
    [
        field("task", TEXT),
        field("metric", TEXT, "contains and exact: share of examples; loglikelihood: mean over examples, in nats"),
        *CELL,
        *MAYBE_RESTORED,
        SEEDS,
        field("examples_dev", COUNT, "of the half on which restored models are chosen"),
        field("score_dev", REAL, "on that half, mean over seeds"),
        field("change_dev", REAL, "on that half, less the same runs' with nothing restored; null: base", null=True),
        field("tolerance", REAL, "how far below 0 change_dev may lie for the model to be recommended"),
        field("keeps", BOOL, "whether it does not lie further below; null: base", null=True),
        field("examples", COUNT, "of the other half, on which all below is reported"),
        *interval_fields("score", "mean over examples and seeds"),
        *interval_fields("change", "score less the same runs' with nothing restored; null: base"),
        field("knowledge_dev", REAL, "accuracy on dev facts, mean over the levels that have any", null=True),
        *interval_fields("knowledge", "the same on test facts"),
        *interval_fields("knowledge_change", "knowledge less the same runs' with nothing restored; null: base"),
        field(
            "frontier", BOOL, "no other model of the cell has as much of both, and more of one; null: base", null=True
        ),
        field("chosen", BOOL, "whether it is recommended among the models of its cell"),
    ]
)

TASK_ANALYSES: dict[str, pa.Schema] = {"task_trade": TASK_TRADE}
