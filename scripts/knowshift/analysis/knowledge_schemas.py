"""The tables of what is known, net of noise: churn, wrong answers, topics drawn, and the reliability of levels.

Units are those of `schemas.py`, which joins these tables to the others.
"""

import pyarrow as pa

from knowshift.analysis.fields import (
    BOOL,
    CELL,
    COUNT,
    MAYBE_RESTORED,
    QUESTIONS,
    REAL,
    SEEDS,
    SET,
    TEXT,
    field,
    interval_fields,
)

CHURN = pa.schema(
    [
        *CELL,
        SET,
        field("knowledge", TEXT, "before training, by mastery: known (R > 0.5), partly known, unknown (R = 0), or all"),
        field("event", TEXT, "what is counted: lost (not answered), learned or answered"),
        field("facts", COUNT),
        SEEDS,
        field("answered_before", REAL, "share of the facts that the pre-trained model answers, asked as in training"),
        field("answered_few_shot", REAL, "share that it answers after examples; null: not asked so", null=True),
        field("share", REAL, "of the facts that it happens to, mean over seeds"),
        field("spread", REAL, "standard deviation over seeds; null with one seed", null=True),
        *interval_fields(
            "disagreement", "share of the facts on which two seeds disagree, mean over pairs; null: one seed"
        ),
        field("in_every_seed", REAL, "share of the facts that it happens to in every seed", null=True),
        field("expected_in_every_seed", REAL, "the same if it hit the facts of a level at random", null=True),
        *interval_fields("excess", "in every seed less expected: what churn does not explain"),
    ]
)

WRONG_ANSWERS = pa.schema(
    [
        *CELL,
        SET,
        field("level", pa.int8(), "mastery level of the question"),
        SEEDS,
        QUESTIONS,
        field("kind", TEXT, "right, nothing, other object (of the topic), near (the right one) or other"),
        field("answers", COUNT, "of this kind, over all seeds"),
        field("share", REAL, "of all answers to the level's questions"),
    ]
)

TRAINING_TOPICS = pa.schema(
    [
        field("run", TEXT),
        *CELL,
        field("seed", pa.int32()),
        field("topic", TEXT),
        field("facts", COUNT, "training facts of the topic"),
    ]
)

PROBED = [
    field("domain", TEXT, "null: all domains and splits together", null=True),
    field("split", TEXT, null=True),
]
LEVEL_RELIABILITY = pa.schema(
    [
        *PROBED,
        field("facts", COUNT, "that have completions in both halves"),
        field("agreement", REAL, "share of the facts with one level by either half of the completions", null=True),
        field("correlation", REAL, "of R by one half with R by the other", null=True),
        field("spearman_brown", REAL, "reliability of R by all completions that follows", null=True),
        field("template_correlation", REAL, "of successes after two templates, mean over pairs", null=True),
        field("template_lowest", REAL, "of the pairs", null=True),
        field("template_highest", REAL, "of the pairs", null=True),
    ]
)
LEVEL_REGRESSION = pa.schema(
    [
        *PROBED,
        field("level", pa.int8(), "observed in the first half of the completions"),
        field("facts", COUNT),
        field("observed", REAL, "mean R in the first half"),
        field("expected", REAL, "mean R in the second half"),
        field("low", REAL, "lower end of the 95 % interval over facts; null with one fact", null=True),
        field("high", REAL, "upper end", null=True),
        field("same_level", REAL, "share of the facts that the second half puts at this level"),
    ]
)


def _share(name: str, doc: str) -> list[pa.Field]:
    """The columns of a share and its interval."""
    return [
        field(name, REAL, doc, null=True),
        field(f"{name}_low", REAL, "lower end of the 95 % interval over facts (Wilson)", null=True),
        field(f"{name}_high", REAL, "upper end", null=True),
    ]


FATES = pa.schema(
    [
        field("data", TEXT, "name of the model that was fine-tuned elsewhere"),
        *MAYBE_RESTORED,
        field("chosen", BOOL, "whether the share is best on dev"),
        SET,
        field("topic", TEXT, "null: all topics together", null=True),
        field("asked_with", TEXT, "how the pre-trained model was asked: few-shot, or pre-trained (the study prompt)"),
        field("facts", COUNT),
        field("kept", COUNT, "answered before and after"),
        field("lost", COUNT, "answered before, and not after"),
        field("learned", COUNT, "not answered before, and after"),
        field("unknown", COUNT, "answered neither before nor after"),
        *_share("before", "of the facts, answered by the pre-trained model"),
        *_share("after", "of the facts, answered by the fine-tuned or restored model"),
        *_share("kept_share", "of the facts answered before; null: none was"),
        *_share("learned_share", "of the facts not answered before; null: all were"),
        field("change", REAL, "after less before", null=True),
        field("change_low", REAL, "lower end of the 95 % interval of paired proportions (Newcombe)", null=True),
        field("change_high", REAL, "upper end", null=True),
        field("p", REAL, "McNemar's exact test that as many facts are lost as learned"),
        field("logprob_before", REAL, "mean log-probability in nats of the right answer's tokens, over all facts"),
        field("logprob_after", REAL, "the same of the fine-tuned or restored model, asked in its own way"),
    ]
)

KNOWLEDGE_ANALYSES: dict[str, pa.Schema] = {
    "churn": CHURN,
    "wrong_answers": WRONG_ANSWERS,
    "training_topics": TRAINING_TOPICS,
    "level_reliability": LEVEL_RELIABILITY,
    "level_regression": LEVEL_REGRESSION,
    "fates": FATES,
}
