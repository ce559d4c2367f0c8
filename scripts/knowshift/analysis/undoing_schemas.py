"""The tables that compare ways to undo a part of an update. Units are those of `schemas.py`, which joins them."""

import pyarrow as pa

from knowshift.analysis.fields import CELL, COUNT, REAL, SEEDS, SET, TEXT, field, interval_fields

_CONTEST = [*CELL, field("region", TEXT), SEEDS, SET]
_KNOWN = field("known", COUNT, "facts of the set that were known before training (R > 0.5)")
_STRATEGY = field("strategy", TEXT, "what is undone, or the setting that a training otherwise changes")
_TAUGHT = "share of its own training set that a model answers, mean over seeds; null: not asked"

UNDOING = pa.schema(
    [
        *_CONTEST,
        _KNOWN,
        _STRATEGY,
        field(
            "percent",
            REAL,
            "how much is undone; 0: the fine-tuned model, 100: the base within the region; null: trained otherwise",
            null=True,
        ),
        field(
            "variant",
            TEXT,
            "the method that trained the model otherwise; null: a part of the update is undone",
            null=True,
        ),
        *interval_fields("taught", _TAUGHT),
        *interval_fields("knowledge", "share of the known facts that a model answers, mean over seeds"),
        field("kept", REAL, "the part of it that the fine-tuned model answers too"),
        field("regained", REAL, "the part of it that the fine-tuned model does not answer"),
        field("frontier", pa.bool_(), "no way and share of the cell answers as much of both, and more", null=True),
    ]
)

UNDOING_WAYS = pa.schema(
    [
        *_CONTEST,
        _KNOWN,
        _STRATEGY,
        field("points", COUNT, "shares that were tried, 0 and 100 among them"),
        field("reference", TEXT, "the way that this one is compared with"),
        *interval_fields(
            "area",
            "mean share of known facts over the taught facts lost on the way to 100 %; null without such a way",
        ),
        *interval_fields("over_reference", "area less the reference's"),
        field(
            "matched_percent",
            REAL,
            "best on dev of the shares that keep 90 % of the taught facts; if these were not asked, of those that keep"
            " the tasks",
            null=True,
        ),
        field("matched_variant", TEXT, "the method of that model, if it was trained otherwise", null=True),
        field("matched_taught", REAL, _TAUGHT, null=True),
        *interval_fields("matched_knowledge", "share of known facts there"),
        *interval_fields("matched_gain", "that share less the reference's"),
        field("p", REAL, "paired permutation test of it over the known facts", null=True),
        field("p_corrected", REAL, "by Holm's method, over all ways and cells of a set", null=True),
        field("best_percent", REAL, "of the shares above 0, the best on dev", null=True),
        field("best_variant", TEXT, "the method of that model, if it was trained otherwise", null=True),
        *interval_fields("best_accuracy", "plain mean of the five level accuracies there"),
    ]
)

UNDOING_RULES = pa.schema(
    [
        *_CONTEST,
        field("rule", TEXT, "that reads weights alone: knee, holds 90 % or half the norm"),
        field("percent", REAL, "that it chooses for top; null: none of the shares that were tried fits", null=True),
        field("best_percent", REAL, "of the shares above 0, the best on dev"),
        field("accuracy", REAL, "at the rule's share: plain mean of the five level accuracies", null=True),
        field("best_accuracy", REAL, "at the share that is best on dev", null=True),
        *interval_fields("regret", "the second less the first"),
    ]
)

UNDOING_ANALYSES: dict[str, pa.Schema] = {
    "undoing": UNDOING,
    "undoing_ways": UNDOING_WAYS,
    "undoing_rules": UNDOING_RULES,
}
