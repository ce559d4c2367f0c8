"""The tables of a model's analysis, of costs and of published figures: their columns, types and units.

Accuracies, shares, probabilities and gains run from 0 to 1. `low` and `high` are the ends of a 95 % bootstrap
interval over facts; `spread` is the standard deviation over seeds, null with one seed. docs/report.md explains how each
number is computed. The texts of the columns are stored in the files, so a new wording changes their bytes.
"""

import pyarrow as pa

from knowshift.analysis import fields
from knowshift.analysis.fields import field
from knowshift.analysis.knowledge_schemas import KNOWLEDGE_ANALYSES
from knowshift.analysis.task_schemas import TASK_ANALYSES
from knowshift.analysis.undoing_schemas import UNDOING_ANALYSES

_TEXT, _REAL, _COUNT, _BOOL = fields.TEXT, fields.REAL, fields.COUNT, fields.BOOL
_CELL, _SEEDS, _SET, _QUESTIONS = fields.CELL, fields.SEEDS, fields.SET, fields.QUESTIONS
_RESTORED, _MAYBE_RESTORED = fields.RESTORED, fields.MAYBE_RESTORED
_estimate, _interval = fields.estimate_fields, fields.interval_fields


def _crossed(name: str, doc: str) -> list[pa.Field]:
    """The columns of a number and its interval over facts and seeds."""
    return [
        field(name, _REAL, doc, null=True),
        field(
            f"{name}_low", _REAL, "lower end of the 95 % interval over facts and, with two or more, seeds", null=True
        ),
        field(f"{name}_high", _REAL, "upper end", null=True),
    ]


_HEADLINE = "plain mean of the five level accuracies, mean over seeds; null if a level has no questions"

SCORES = pa.schema(
    [
        *_CELL,
        _SET,
        _SEEDS,
        _QUESTIONS,
        *_estimate("accuracy", _HEADLINE),
        field("lowest", _REAL, "of the seeds", null=True),
        field("highest", _REAL, "of the seeds", null=True),
        *_interval("gain", "accuracy less the pre-trained model's"),
        *_interval(
            "standardised", "accuracy with each level's topics weighted as in the whole set; null on training sets"
        ),
    ]
)

SCORES_BY_LEVEL = pa.schema(
    [
        *_CELL,
        field("common", _BOOL, "the largest size that every data kind of the method was run at"),
        _SET,
        field("level", pa.int8(), "mastery level of the question"),
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
        field("facts", _COUNT, "level-4 facts whose divergence was measured"),
        *_estimate("kl", "mean divergence from the pre-trained model, in nats"),
        *_interval("accuracy", "on level-4 questions, mean over seeds"),
        field("before", _REAL, "the pre-trained model's accuracy on level-4 questions", null=True),
    ]
)

CORRELATIONS = pa.schema(
    [
        field("method", _TEXT),
        field("data", _TEXT, "a data kind over its sizes; null: all data kinds and sizes together", null=True),
        _SET,
        field("points", _COUNT, "cells that are correlated"),
        field(
            "spearman",
            _REAL,
            "rank correlation of KL and level-4 accuracy; null with fewer than five points",
            null=True,
        ),
        field("low", _REAL, "lower end of the 95 % interval over cells", null=True),
        field("high", _REAL, "upper end", null=True),
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
        field("unrestored", _REAL, "the same of the same runs with nothing restored", null=True),
        *_interval("gain", "accuracy less unrestored"),
        field("gained", _COUNT, "questions that only the restored models answer, over all seeds"),
        field("lost", _COUNT, "questions that only the unrestored models answer, over all seeds"),
        field(
            "p",
            _REAL,
            "paired permutation test of the gain over facts, of these runs, two-sided; null at 0 %",
            null=True,
        ),
        field("p_corrected", _REAL, "after Holm, over all restorations of the model on the set", null=True),
        field(
            "undone",
            _REAL,
            "share of the summed relative change undone, exact zeros left out; null: not known",
            null=True,
        ),
    ]
)

STRATEGIES = pa.schema(
    [
        field("strategy", _TEXT, "a method that was not fine-tuned here; or mixed, divided, lora or restored"),
        field("chosen", _TEXT, "how the row's cell was chosen: on dev, largest size, or as it is"),
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
    field("parameters", _COUNT, "of the part, in the region"),
    field("share", _REAL, "of all restored parameters that lie here, mean over seeds"),
    field("share_of_parameters", _REAL, "of the region's parameters that lie here"),
]
RESTORED_LAYERS = pa.schema([*_CELL, *_RESTORED, field("layer", pa.int32()), *_WHERE])
RESTORED_MODULES = pa.schema([*_CELL, *_RESTORED, field("module", _TEXT), *_WHERE])

FLOWS = pa.schema(
    [
        field("run", _TEXT),
        *_CELL,
        field("seed", pa.int32()),
        *_MAYBE_RESTORED,
        _SET,
        field("topic", _TEXT),
        field("level", pa.int8(), "mastery level before training"),
        field("knowledge", _TEXT, "before training, by mastery: known (R > 0.5), partly known, or unknown (R = 0)"),
        field("before", _BOOL, "the pre-trained model answers, asked as in training"),
        field("after", _BOOL, "the fine-tuned model answers"),
        field("restored", _BOOL, "the restored model answers; null: the run was not restored", null=True),
        field("facts", _COUNT),
    ]
)

FACT_OUTPUTS = pa.schema(
    [
        field("run", _TEXT),
        *_CELL,
        *_MAYBE_RESTORED,
        field("fact_id", _TEXT),
        _SET,
        field("topic", _TEXT),
        field("level", pa.int8(), "mastery level before training"),
        field("question", _TEXT),
        field("object", _TEXT, "the right answer"),
        field("before", _TEXT, "what the pre-trained model answers"),
        field("after", _TEXT, "what the fine-tuned model answers"),
        field("restored", _TEXT, "what the restored model answers", null=True),
        field("before_correct", _BOOL),
        field("after_correct", _BOOL),
        field("restored_correct", _BOOL, null=True),
        field("before_probability", _REAL, "of the right answer, geometric mean over its tokens"),
        field("after_probability", _REAL),
        field("restored_probability", _REAL, null=True),
    ]
)

_STATE = [field("state", _TEXT, "before, after or restored"), *_CELL, *_MAYBE_RESTORED, _SET]

RIGHT_ANSWER_BINS = pa.schema(
    [
        *_STATE,
        field("bin", pa.int8(), "0 to 9: bins of equal width over the probability"),
        field("questions", _COUNT, "in the bin, over all seeds"),
        field("probability", _REAL, "of the right answer, geometric mean over its tokens, mean over the bin"),
        field("accuracy", _REAL, "share of the bin's questions that are answered"),
    ]
)
RIGHT_ANSWER_GAPS = pa.schema(
    [
        *_STATE,
        _SEEDS,
        _QUESTIONS,
        field("probability", _REAL, "of the right answer, mean over all questions and seeds"),
        field("accuracy", _REAL, "share answered, over all questions and seeds"),
        field("gap", _REAL, "mean distance of the two over the bins, weighted by questions"),
        field("spread", _REAL, "of the gap over seeds", null=True),
    ]
)

_CONFIDENCE = "probability of the given answer, product over its tokens and its end"
CONFIDENCE_BINS = pa.schema(
    [
        *_STATE,
        field("bin", pa.int8(), "0 to 9: bins of equal width over the confidence"),
        field("questions", _COUNT, "in the bin, over all seeds"),
        field("confidence", _REAL, f"{_CONFIDENCE}, mean over the bin"),
        field("accuracy", _REAL, "share of the bin's answers that are right"),
    ]
)


def _by_seed(name: str, doc: str) -> list[pa.Field]:
    """The columns of a measure that is null where it is not defined, and of its spread."""
    return [field(name, _REAL, doc, null=True), field(f"{name}_spread", _REAL, "over seeds", null=True)]


CONFIDENCE_ERRORS = pa.schema(
    [
        *_STATE,
        _SEEDS,
        _QUESTIONS,
        field("confidence", _REAL, f"{_CONFIDENCE}, mean over all questions and seeds"),
        field("accuracy", _REAL, "share of right answers, over all questions and seeds"),
        *_by_seed("error", "expected calibration error: mean distance of the two over ten bins, by questions"),
        *_by_seed("auroc", "chance that a right answer has more confidence than a wrong one; null: all right or wrong"),
        *_by_seed("error_per_token", "the same error with the geometric mean over tokens as the confidence"),
        *_by_seed("auroc_per_token", "the same chance with the geometric mean over tokens as the confidence"),
    ]
)

LOSS_CURVES = pa.schema(
    [
        *_CELL,
        _SEEDS,
        field("step", _REAL, "middle of the steps that the point stands for"),
        field("loss", _REAL, "mean negative log-likelihood in nats, mean over steps and seeds"),
        field("lowest", _REAL, "of the seeds"),
        field("highest", _REAL, "of the seeds"),
    ]
)

CLAIMS = pa.schema(
    [
        field("claim", pa.int8(), "1 to 4"),
        field("part", _TEXT, "a letter; null: the claim as a whole", null=True),
        field("statement", _TEXT),
        field("verdict", _TEXT, "holds, does not hold, or cannot be told"),
        field("measure", _TEXT, "what the value is"),
        field("unit", _TEXT, "points, nats or correlation"),
        field("value", _REAL, "in the unit; accuracies as a share (0.1 is ten points)", null=True),
        field("low", _REAL, "lower end of the interval over draws and facts, at `confidence`", null=True),
        field("high", _REAL, "upper end", null=True),
        field("confidence", _REAL, "of the interval, after Holm over all parts; null: no interval", null=True),
        field("bound", _REAL, "it holds above this and does not below; null for a claim as a whole", null=True),
        field("seeds", _COUNT, "draws of the training set, of the data kind with fewest", null=True),
        field("standard_error", _REAL, "over draws and facts, in the unit", null=True),
        field("df", _REAL, "degrees of freedom of the variance over draws", null=True),
        field("p", _REAL, "of the distance from the bound, two-sided; null: not tested", null=True),
        field("p_corrected", _REAL, "after Holm, over all parts of all claims that were tested", null=True),
        field(
            "detectable",
            _REAL,
            "smallest distance from the bound that would have been seen with 80 % probability, in the unit",
            null=True,
        ),
        field("compared", _TEXT, "the data kinds, sizes and shares that the value is of"),
        field("note", _TEXT, "why there is no value, or how this run differs from the paper's", null=True),
        field("needed", _TEXT, "what it would take to tell; null: it was told, or has no value", null=True),
    ]
)

RECOMMENDATION = pa.schema(
    [
        field("reason", _TEXT, "why nothing can be recommended; null: the rest is there", null=True),
        field("run", _TEXT, "the recipe's run that is best on dev; the command exports it", null=True),
        *[field.with_nullable(True) for field in [*_CELL, *_RESTORED]],
        field("seeds", _COUNT, "that all recipes have; accuracies and gains are means over them", null=True),
        field(
            "dev_accuracy",
            _REAL,
            "that it was chosen by: mean over the levels that dev has, mean over seeds",
            null=True,
        ),
        field("dev_questions", _COUNT, null=True),
        field("candidates", _COUNT, "recipes it was chosen from", null=True),
        field("behind", _REAL, "dev accuracy of the recipe that is best on dev, less this one's", null=True),
        field("behind_error", _REAL, "standard error of that difference, over facts and seeds", null=True),
        field("left_out", _COUNT, "restored recipes that do not keep the tasks; null: no tasks", null=True),
        field("unrestored_method", _TEXT, "of the unrestored recipe that is best on dev", null=True),
        field("unrestored_data", _TEXT, "its data kind", null=True),
        field("unrestored_size", _COUNT, "its number of training facts", null=True),
        field("note", _TEXT, "what makes the choice uncertain; null: nothing", null=True),
        field("set", _TEXT, "test or test_ood", null=True),
        field("questions", _COUNT, null=True),
        *_crossed("accuracy", "plain mean of the five level accuracies, mean over seeds"),
        *_crossed("gain", "accuracy less that of the unrestored recipe that is best on dev"),
        *_crossed("gain_unrestored", "accuracy less that of the same runs with nothing restored"),
        *_crossed("gain_pretrained", "accuracy less the pre-trained model's"),
        field("unrestored_accuracy", _REAL, "of the unrestored recipe that is best on dev, mean over seeds", null=True),
        field("run_accuracy", _REAL, "of the one run that is exported", null=True),
        field("command", _TEXT, "that exports the model", null=True),
    ]
)

# The tables of the analysis of one model, by file name.
ANALYSES: dict[str, pa.Schema] = {
    "scores": SCORES,
    "scores_by_level": SCORES_BY_LEVEL,
    "shifts": SHIFTS,
    "correlations": CORRELATIONS,
    "restorations": RESTORATIONS,
    **UNDOING_ANALYSES,
    "strategies": STRATEGIES,
    "restored_layers": RESTORED_LAYERS,
    "restored_modules": RESTORED_MODULES,
    "flows": FLOWS,
    **KNOWLEDGE_ANALYSES,
    **TASK_ANALYSES,
    "fact_outputs": FACT_OUTPUTS,
    "right_answer_bins": RIGHT_ANSWER_BINS,
    "right_answer_gaps": RIGHT_ANSWER_GAPS,
    "confidence_bins": CONFIDENCE_BINS,
    "confidence_errors": CONFIDENCE_ERRORS,
    "loss_curves": LOSS_CURVES,
    "claims": CLAIMS,
    "recommendation": RECOMMENDATION,
}

COSTS = pa.schema(
    [
        field("stage", _TEXT, "the rule"),
        field("model", _TEXT, "null: a stage of no one model", null=True),
        field("jobs", _COUNT),
        field("seconds", _REAL, "of all jobs together, one after another"),
        field("longest", _REAL, "seconds of the longest job"),
        field("cpu_seconds", _REAL, "of all jobs together", null=True),
        field("memory", _REAL, "largest resident set of a job, in megabytes", null=True),
        field(
            "tokens_per_second",
            _REAL,
            "that training reads, over all its steps; null where it was not measured",
            null=True,
        ),
    ]
)

PUBLISHED = pa.schema(
    [
        field("source", _TEXT, "the file of resources/published, without .csv"),
        field("model", _TEXT, "as the paper names it"),
        field("of", _TEXT, "the model of this run that it is; null: none of them", null=True),
        field("strategy", _TEXT, null=True),
        field("data", _TEXT, null=True),
        field("size", _COUNT, null=True),
        field("set", _TEXT, null=True),
        field("level", pa.int8(), null=True),
        field("percent", _REAL, "of parameters restored, or with the largest changes", null=True),
        field("layers", _TEXT, "a layer, or a block as 0-3", null=True),
        field("module", _TEXT, null=True),
        field("value", _REAL, "an accuracy or a share (0 to 1), or of mastery_distribution a number of facts"),
        field("spread", _REAL, "as the paper gives it", null=True),
    ]
)
