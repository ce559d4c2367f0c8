"""The tables that statistics are kept in: their columns, types and units.

Accuracies, shares, probabilities and gains run from 0 to 1. `low` and `high` are the ends of a 95 % bootstrap interval over
facts; `spread` is the standard deviation over seeds, null with one seed. docs/report.md says how each is made.
"""

import pyarrow as pa


def _field(name: str, type_: pa.DataType, doc: str = "", null: bool = False) -> pa.Field:
    return pa.field(name, type_, null, {"doc": doc} if doc else None)


_TEXT, _REAL, _COUNT, _BOOL = pa.string(), pa.float64(), pa.int64(), pa.bool_()

_CELL = [
    _field(
        "method", _TEXT, "full, lora or a variant; pre-trained and instruct are models that were not fine-tuned here"
    ),
    _field("data", _TEXT, "level0 … level4 or mixed; null: not fine-tuned here", null=True),
    _field("size", _COUNT, "training facts used; null: not fine-tuned here", null=True),
    _field("asked", _TEXT, "training facts asked for: a number or all", null=True),
]
_SEEDS = _field("seeds", _COUNT, "runs that the row is a mean of")
_SET = _field("set", _TEXT, "test, test_ood, dev, dev_ood or training_set")
_QUESTIONS = _field("questions", _COUNT, "facts asked of each run")
_RESTORED = [
    _field("strategy", _TEXT, "which parameters were restored: top, bottom, random or absolute"),
    _field("region", _TEXT),
    _field("percent", _REAL, "share of the region's parameters restored, in percent"),
]
_MAYBE_RESTORED = [field.with_nullable(True) for field in _RESTORED]


def _estimate(name: str, doc: str) -> list[pa.Field]:
    """A number, its spread over seeds and its interval over facts."""
    return [
        _field(name, _REAL, doc, null=True),
        _field("spread", _REAL, "standard deviation over seeds; null with one seed", null=True),
        _field("low", _REAL, "lower end of the 95 % interval over facts", null=True),
        _field("high", _REAL, "upper end", null=True),
    ]


def _interval(name: str, doc: str) -> list[pa.Field]:
    """A number with its interval over facts."""
    return [
        _field(name, _REAL, doc, null=True),
        _field(f"{name}_low", _REAL, "lower end of the 95 % interval over facts", null=True),
        _field(f"{name}_high", _REAL, "upper end", null=True),
    ]


_HEADLINE = "plain mean of the five level accuracies, mean over seeds; null if a level has no questions"

SCORES = pa.schema(
    [
        *_CELL,
        _SET,
        _SEEDS,
        _QUESTIONS,
        *_estimate("accuracy", _HEADLINE),
        _field("lowest", _REAL, "of the seeds", null=True),
        _field("highest", _REAL, "of the seeds", null=True),
        *_interval("gain", "accuracy less the pre-trained model's"),
    ]
)

SCORES_BY_LEVEL = pa.schema(
    [
        *_CELL,
        _field("common", _BOOL, "the largest size that every data kind of the method was run at"),
        _SET,
        _field("level", pa.int8(), "mastery level of the question"),
        _SEEDS,
        _QUESTIONS,
        *_estimate("accuracy", "on questions of the level, mean over seeds"),
    ]
)

SHIFTS = pa.schema(
    [
        *_CELL,
        _SET,
        _SEEDS,
        _field("facts", _COUNT, "level-4 facts whose divergence was measured"),
        *_estimate("kl", "mean divergence from the pre-trained model, in nats"),
        *_interval("accuracy", "on level-4 questions, mean over seeds"),
        _field("before", _REAL, "the pre-trained model's accuracy on level-4 questions", null=True),
    ]
)

CORRELATIONS = pa.schema(
    [
        _field("method", _TEXT),
        _field("data", _TEXT, "a data kind over its sizes; null: all data kinds and sizes together", null=True),
        _SET,
        _field("points", _COUNT, "cells that are correlated"),
        _field(
            "spearman",
            _REAL,
            "rank correlation of KL and level-4 accuracy; null with fewer than five points",
            null=True,
        ),
        _field("low", _REAL, "lower end of the 95 % interval over cells", null=True),
        _field("high", _REAL, "upper end", null=True),
    ]
)

RESTORATIONS = pa.schema(
    [
        *_CELL,
        *_RESTORED,
        _SET,
        _SEEDS,
        _QUESTIONS,
        *_estimate("accuracy", f"after restoration: {_HEADLINE}; on the training set the share answered"),
        _field("unrestored", _REAL, "the same of the same runs with nothing restored", null=True),
        *_interval("gain", "accuracy less unrestored"),
        _field("gained", _COUNT, "questions that only the restored models answer, over all seeds"),
        _field("lost", _COUNT, "questions that only the unrestored models answer, over all seeds"),
        _field("p", _REAL, "paired permutation test of the gain, two-sided; null at 0 %", null=True),
        _field("p_corrected", _REAL, "after Holm, over all restorations of the model on the set", null=True),
        _field(
            "undone",
            _REAL,
            "share of the summed relative change undone, exact zeros left out; null: not known",
            null=True,
        ),
    ]
)

STRATEGIES = pa.schema(
    [
        _field("strategy", _TEXT, "pre-trained, instruct, mixed, divided, lora or restored"),
        _field("chosen", _TEXT, "how the row's cell was chosen: on dev, largest size, or as it is"),
        *_CELL,
        *[field.with_name("selection") if field.name == "strategy" else field for field in _MAYBE_RESTORED],
        _SET,
        _SEEDS,
        _QUESTIONS,
        *_estimate("accuracy", _HEADLINE),
        *_interval("gain", "accuracy less the pre-trained model's"),
    ]
)

_WHERE = [
    _SEEDS,
    _field("parameters", _COUNT, "of the part, in the region"),
    _field("share", _REAL, "of all restored parameters that lie here, mean over seeds"),
    _field("share_of_parameters", _REAL, "of the region's parameters that lie here"),
]
RESTORED_LAYERS = pa.schema([*_CELL, *_RESTORED, _field("layer", pa.int32()), *_WHERE])
RESTORED_MODULES = pa.schema([*_CELL, *_RESTORED, _field("module", _TEXT), *_WHERE])

FLOWS = pa.schema(
    [
        _field("run", _TEXT),
        *_CELL,
        _field("seed", pa.int32()),
        *_MAYBE_RESTORED,
        _SET,
        _field("topic", _TEXT),
        _field("level", pa.int8(), "mastery level before training"),
        _field("before", _BOOL, "the pre-trained model answers, asked as in training"),
        _field("after", _BOOL, "the fine-tuned model answers"),
        _field("restored", _BOOL, "the restored model answers; null: the run was not restored", null=True),
        _field("facts", _COUNT),
    ]
)

FACT_OUTPUTS = pa.schema(
    [
        _field("run", _TEXT),
        *_CELL,
        *_MAYBE_RESTORED,
        _field("fact_id", _TEXT),
        _SET,
        _field("topic", _TEXT),
        _field("level", pa.int8(), "mastery level before training"),
        _field("question", _TEXT),
        _field("object", _TEXT, "the right answer"),
        _field("before", _TEXT, "what the pre-trained model answers"),
        _field("after", _TEXT, "what the fine-tuned model answers"),
        _field("restored", _TEXT, "what the restored model answers", null=True),
        _field("before_correct", _BOOL),
        _field("after_correct", _BOOL),
        _field("restored_correct", _BOOL, null=True),
        _field("before_probability", _REAL, "of the right answer, geometric mean over its tokens"),
        _field("after_probability", _REAL),
        _field("restored_probability", _REAL, null=True),
    ]
)

_STATE = [_field("state", _TEXT, "before, after or restored"), *_CELL, *_MAYBE_RESTORED, _SET]

CALIBRATION = pa.schema(
    [
        *_STATE,
        _field("bin", pa.int8(), "0 to 9: bins of equal width over the probability"),
        _field("questions", _COUNT, "in the bin, over all seeds"),
        _field("probability", _REAL, "of the right answer, geometric mean over its tokens, mean over the bin"),
        _field("accuracy", _REAL, "share of the bin's questions that are answered"),
    ]
)
CALIBRATION_ERRORS = pa.schema(
    [
        *_STATE,
        _SEEDS,
        _QUESTIONS,
        _field("probability", _REAL, "mean over all questions and seeds"),
        _field("accuracy", _REAL, "share answered, over all questions and seeds"),
        _field("error", _REAL, "expected calibration error: mean distance of the two over the bins, by questions"),
        _field("spread", _REAL, "of the error over seeds", null=True),
    ]
)

LOSS_CURVES = pa.schema(
    [
        *_CELL,
        _SEEDS,
        _field("step", _REAL, "middle of the steps that the point stands for"),
        _field("loss", _REAL, "mean negative log-likelihood in nats, mean over steps and seeds"),
        _field("lowest", _REAL, "of the seeds"),
        _field("highest", _REAL, "of the seeds"),
    ]
)

CLAIMS = pa.schema(
    [
        _field("claim", pa.int8(), "1 to 4"),
        _field("part", _TEXT, "a letter; null: the claim as a whole", null=True),
        _field("statement", _TEXT),
        _field("verdict", _TEXT, "holds, does not hold, or cannot be told"),
        _field("measure", _TEXT, "what the value is"),
        _field("unit", _TEXT, "points, nats or correlation"),
        _field("value", _REAL, "in the unit; accuracies as a share (0.1 is ten points)", null=True),
        _field("low", _REAL, "lower end of the 95 % interval over facts", null=True),
        _field("high", _REAL, "upper end", null=True),
        _field("bound", _REAL, "it holds above this and does not below; null for a claim as a whole", null=True),
        _field("compared", _TEXT, "the data kinds, sizes and shares that the value is of"),
        _field("note", _TEXT, "why it cannot be told, or how this run differs from the paper's", null=True),
    ]
)

RECOMMENDATION = pa.schema(
    [
        _field("reason", _TEXT, "why nothing can be recommended; null: the rest is there", null=True),
        *[field.with_nullable(True) for field in [_field("run", _TEXT), *_CELL, *_RESTORED]],
        _field(
            "dev_accuracy",
            _REAL,
            "that it was chosen by: mean over the levels that dev has, mean over seeds",
            null=True,
        ),
        _field("dev_questions", _COUNT, null=True),
        _field("candidates", _COUNT, "recipes it was chosen from", null=True),
        _field("set", _TEXT, "test or test_ood", null=True),
        _field("questions", _COUNT, null=True),
        *_interval("accuracy", "of the exported model: plain mean of the five level accuracies"),
        *_interval("gain_unrestored", "accuracy less that of the same run with nothing restored"),
        *_interval("gain_pretrained", "accuracy less the pre-trained model's"),
        _field("command", _TEXT, "that exports the model", null=True),
    ]
)

# Of one model, by the names of their files.
ANALYSES: dict[str, pa.Schema] = {
    "scores": SCORES,
    "scores_by_level": SCORES_BY_LEVEL,
    "shifts": SHIFTS,
    "correlations": CORRELATIONS,
    "restorations": RESTORATIONS,
    "strategies": STRATEGIES,
    "restored_layers": RESTORED_LAYERS,
    "restored_modules": RESTORED_MODULES,
    "flows": FLOWS,
    "fact_outputs": FACT_OUTPUTS,
    "calibration": CALIBRATION,
    "calibration_errors": CALIBRATION_ERRORS,
    "loss_curves": LOSS_CURVES,
    "claims": CLAIMS,
    "recommendation": RECOMMENDATION,
}

COSTS = pa.schema(
    [
        _field("stage", _TEXT, "the rule"),
        _field("model", _TEXT, "null: a stage of no one model", null=True),
        _field("jobs", _COUNT),
        _field("seconds", _REAL, "of all jobs together, one after another"),
        _field("longest", _REAL, "seconds of the longest job"),
        _field("cpu_seconds", _REAL, "of all jobs together", null=True),
        _field("memory", _REAL, "largest resident set of a job, in megabytes", null=True),
        _field(
            "tokens_per_second",
            _REAL,
            "that training reads, over all its steps; null where it was not measured",
            null=True,
        ),
    ]
)

PUBLISHED = pa.schema(
    [
        _field("source", _TEXT, "the file of resources/published, without .csv"),
        _field("model", _TEXT, "as the paper names it"),
        _field("of", _TEXT, "the model of this run that it is; null: none of them", null=True),
        _field("strategy", _TEXT, null=True),
        _field("data", _TEXT, null=True),
        _field("size", _COUNT, null=True),
        _field("set", _TEXT, null=True),
        _field("level", pa.int8(), null=True),
        _field("percent", _REAL, "of parameters restored, or with the largest changes", null=True),
        _field("layers", _TEXT, "a layer, or a block as 0-3", null=True),
        _field("module", _TEXT, null=True),
        _field("value", _REAL, "an accuracy or a share (0 to 1), or of mastery_distribution a number of facts"),
        _field("spread", _REAL, "as the paper gives it", null=True),
    ]
)


_RUN = pa.field("run", pa.string(), False, {"doc": "method-data-size-seed, or base for the pre-trained model"})


_SET = pa.field("set", pa.string(), False, {"doc": "training_set, train, dev, test, dev_ood or test_ood"})


_RESTORED = [
    pa.field("strategy", pa.string(), False),
    pa.field("region", pa.string(), False),
    pa.field(
        "percent", pa.float64(), False, {"doc": "share of the region's parameters restored; 0 is the fine-tuned model"}
    ),
]


_SCORES = [
    pa.field("questions", pa.int64(), False),
    pa.field("correct", pa.int64(), False),
    pa.field("share_correct", pa.float64(), False, {"doc": "0 to 1, over all questions of the set"}),
    pa.field(
        "accuracy",
        pa.float64(),
        True,
        {"doc": "0 to 1, plain mean of the five level accuracies; null if a level is empty"},
    ),
]


ACCURACY = pa.schema([_RUN, _SET, *_SCORES])


ACCURACY_BY_LEVEL = pa.schema(
    [
        _RUN,
        _SET,
        pa.field("level", pa.int8(), False),
        pa.field("questions", pa.int64(), False),
        pa.field("correct", pa.int64(), False),
        pa.field("accuracy", pa.float64(), True),
    ]
)


TRAINING_ACCURACY = pa.schema(
    [
        _RUN,
        pa.field("questions", pa.int64(), False, {"doc": "facts of the cell's training set that were asked"}),
        pa.field("before", pa.float64(), False, {"doc": "share the pre-trained model answers, same prompt"}),
        pa.field("after", pa.float64(), False, {"doc": "share the fine-tuned model answers"}),
    ]
)


TRAINING_LOSS = pa.schema(
    [
        _RUN,
        *[
            pa.field(n, t, False)
            for n, t in (
                ("step", pa.int32()),
                ("loss", pa.float64()),
                ("learning_rate", pa.float64()),
                ("gradient_norm", pa.float64()),
            )
        ],
    ]
)


DIVERGENCE_MEANS = pa.schema(
    [
        _RUN,
        _SET,
        pa.field("facts", pa.int64(), False),
        pa.field("kl", pa.float64(), True, {"doc": "mean in nats; null without facts"}),
        pa.field("accuracy_level4", pa.float64(), True, {"doc": "accuracy on level-4 facts of the set"}),
    ]
)


CONCENTRATION = pa.schema(
    [
        _RUN,
        pa.field("region", pa.string(), False),
        pa.field("percent", pa.float64(), False, {"doc": "parameters with the largest relative change"}),
        pa.field("share", pa.float64(), False, {"doc": "of sum(r) that they hold, 0 to 1"}),
        pa.field("share_without_zeros", pa.float64(), False, {"doc": "the same, exact zeros before training left out"}),
        pa.field("parameters", pa.int64(), False),
        pa.field("zero_before", pa.int64(), False),
        pa.field("unchanged", pa.int64(), False),
    ]
)


RESTORED = pa.schema(
    [
        _RUN,
        *_RESTORED,
        _SET,
        *_SCORES,
        pa.field("gain", pa.float64(), True, {"doc": "accuracy less the unrestored model's, same questions"}),
    ]
)


RESTORED_WHERE = pa.schema(
    [
        _RUN,
        *_RESTORED,
        pa.field("layer", pa.int32(), True),
        pa.field("module", pa.string(), False),
        pa.field("parameters", pa.int64(), False),
        pa.field("restored", pa.int64(), False),
        pa.field("restored_unchanged", pa.int64(), False),
        pa.field("restored_sum", pa.float64(), False),
        pa.field("sum", pa.float64(), False),
    ]
)
