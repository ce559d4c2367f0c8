"""The tables of a model's single runs: their columns, types and units.

Accuracies, shares and gains run from 0 to 1. The texts of the columns are stored in the files, so a new wording changes
their bytes.
"""

import pyarrow as pa

from knowshift.analysis.schemas import field

_RUN = field("run", pa.string(), "method-data-size-seed, or base for the pre-trained model")
_SET = field("set", pa.string(), "training_set, train, dev, test, dev_ood or test_ood")
_RESTORED = [
    field("strategy", pa.string()),
    field("region", pa.string()),
    field("percent", pa.float64(), "share of the region's parameters restored; 0 is the fine-tuned model"),
]
_SCORES = [
    field("questions", pa.int64()),
    field("correct", pa.int64()),
    field("share_correct", pa.float64(), "0 to 1, over all questions of the set"),
    field(
        "accuracy", pa.float64(), "0 to 1, plain mean of the five level accuracies; null if a level is empty", null=True
    ),
]

ACCURACY = pa.schema([_RUN, _SET, *_SCORES])

ACCURACY_BY_LEVEL = pa.schema(
    [
        _RUN,
        _SET,
        field("level", pa.int8()),
        field("questions", pa.int64()),
        field("correct", pa.int64()),
        field("accuracy", pa.float64(), null=True),
    ]
)

TRAINING_ACCURACY = pa.schema(
    [
        _RUN,
        field("questions", pa.int64(), "facts of the cell's training set that were asked"),
        field("before", pa.float64(), "share the pre-trained model answers, same prompt"),
        field("after", pa.float64(), "share the fine-tuned model answers"),
    ]
)

TRAINING_LOSS = pa.schema(
    [
        _RUN,
        field("step", pa.int32()),
        field("loss", pa.float64()),
        field("learning_rate", pa.float64()),
        field("gradient_norm", pa.float64()),
    ]
)

DIVERGENCE_MEANS = pa.schema(
    [
        _RUN,
        _SET,
        field("facts", pa.int64()),
        field("kl", pa.float64(), "mean in nats; null without facts", null=True),
        field("accuracy_level4", pa.float64(), "accuracy on level-4 facts of the set", null=True),
    ]
)

CONCENTRATION = pa.schema(
    [
        _RUN,
        field("region", pa.string()),
        field("percent", pa.float64(), "parameters with the largest relative change"),
        field("share", pa.float64(), "of sum(r) that they hold, 0 to 1"),
        field("share_without_zeros", pa.float64(), "the same, exact zeros before training left out, as in all below"),
        field("null_share", pa.float64(), "the same of changes permuted over each tensor's parameters: the null line"),
        field("share_of_absolute", pa.float64(), "of sum(|d|) that the most changed parameters hold"),
        field("null_share_of_absolute", pa.float64(), "the same of permuted changes"),
        field("share_of_squares", pa.float64(), "of sum(d^2) that the most changed parameters hold"),
        field("null_share_of_squares", pa.float64(), "the same of permuted changes"),
        field("changes_undone", pa.float64(), "share of the region's changes that restoring these undoes, in float32"),
        field("changes_undone_bfloat16", pa.float64(), "the same of the changes that bfloat16 sees"),
        field("visible_bfloat16", pa.float64(), "share of the region's changes that bfloat16 sees; float32 sees all"),
        field("parameters", pa.int64()),
        field("zero_before", pa.int64()),
        field("unchanged", pa.int64()),
    ]
)

RESTORED = pa.schema(
    [
        _RUN,
        *_RESTORED,
        _SET,
        *_SCORES,
        field("gain", pa.float64(), "accuracy less the unrestored model's, same questions", null=True),
    ]
)

PRECISION = pa.schema(
    [
        _RUN,
        *_RESTORED,
        field("dtype", pa.string(), "number format that the restored model answered in"),
        _SET,
        *_SCORES,
        field("gain", pa.float64(), "accuracy less the unrestored model's in the same format", null=True),
        field("visible", pa.float64(), "share of the region's changes that this format sees", null=True),
        field("undone", pa.float64(), "share of these that are restored; null unless top", null=True),
    ]
)

RESTORED_WHERE = pa.schema(
    [
        _RUN,
        *_RESTORED,
        field("layer", pa.int32(), null=True),
        field("module", pa.string()),
        field("parameters", pa.int64()),
        field("restored", pa.int64()),
        field("restored_unchanged", pa.int64()),
        field("restored_sum", pa.float64()),
        field("sum", pa.float64()),
    ]
)

# The tables of single runs of one model, by file name; `mastery` and `cells` lie beside them, in other rooms' schemas.
MODEL_TABLES: dict[str, pa.Schema] = {
    "accuracy": ACCURACY,
    "accuracy_by_level": ACCURACY_BY_LEVEL,
    "training_accuracy": TRAINING_ACCURACY,
    "training_loss": TRAINING_LOSS,
    "divergence": DIVERGENCE_MEANS,
    "concentration": CONCENTRATION,
    "restored": RESTORED,
    "restored_where": RESTORED_WHERE,
    "precision": PRECISION,
}
