"""Schemas of the tables of answers, of first-token logits and of divergences."""

import pyarrow as pa

FIRST_TOKENS = 100  # how many of the highest first-token logits are stored

GIVEN = (
    pa.field(
        "answer_logprob",
        pa.float32(),
        False,
        {"doc": "mean log-probability of the tokens of the greedy answer, its end token included, in nats"},
    ),
    pa.field("answer_tokens", pa.int16(), False, {"doc": "their number"}),
)

# The answers of one model, ungraded.
OUTCOMES = pa.schema(
    [
        pa.field("fact_id", pa.string(), False),
        pa.field("set", pa.string(), False, {"doc": "training_set, train, dev, test, dev_ood or test_ood"}),
        pa.field("output", pa.string(), False, {"doc": "greedy answer"}),
        pa.field("gold_logprob", pa.float32(), False, {"doc": "mean log-probability of the object's tokens, in nats"}),
        *GIVEN,
        pa.field(
            "first_tokens", pa.list_(pa.int32()), False, {"doc": "ids of the highest first-token logits, falling"}
        ),
        pa.field("first_logits", pa.list_(pa.float32()), False, {"doc": "their logits"}),
    ]
)


# The pre-trained model's logits on the facts of `leading_facts`.
LEADING_LOGITS = pa.schema(
    [
        pa.field("fact_id", pa.string(), False),
        pa.field("template", pa.int16(), False, {"doc": "the topic's best completion template"}),
        pa.field("logits", pa.list_(pa.float32()), False, {"doc": "of every token at the first answer position"}),
    ]
)


# The graded answers of all runs and restorations of one base model.
ANSWERS = pa.schema(
    [
        pa.field("run", pa.string(), False, {"doc": "method-data-size-seed, or base for the pre-trained model"}),
        pa.field("strategy", pa.string(), True, {"doc": "of restoration; null: nothing was restored"}),
        pa.field("region", pa.string(), True),
        pa.field("percent", pa.float64(), True),
        pa.field("fact_id", pa.string(), False),
        pa.field("set", pa.string(), False, {"doc": "training_set, train, dev, test, dev_ood or test_ood"}),
        pa.field("level", pa.int8(), False, {"doc": "mastery level of the fact before training"}),
        pa.field("output", pa.string(), False),
        pa.field("whole_words", pa.bool_(), False, {"doc": "the output holds the object, word by word"}),
        pa.field(
            "substring", pa.bool_(), False, {"doc": "the output holds the object's characters (the paper's rule)"}
        ),
        pa.field("exact", pa.bool_(), False, {"doc": "the output is the object and nothing else"}),
        pa.field("gold_logprob", pa.float32(), False, {"doc": "mean log-probability of the object's tokens, in nats"}),
        *GIVEN,
    ]
)


# How far one fine-tuned model's next-token distribution diverges from the pre-trained model's, per fact.
DIVERGENCE = pa.schema(
    [
        pa.field("fact_id", pa.string(), False),
        pa.field("set", pa.string(), False, {"doc": "test or test_ood"}),
        pa.field(
            "kl", pa.float64(), False, {"doc": "KL(fine-tuned || pre-trained) in nats, over the fine-tuned top tokens"}
        ),
    ]
)


# Answers to a user's own questions, graded at once (`evaluation/user_questions.py`).
GRADED_OUTCOMES = pa.schema(
    [
        *OUTCOMES,
        pa.field("question", pa.string()),
        pa.field("answers", pa.list_(pa.string()), True, {"doc": "objects that count as correct"}),
        *[ANSWERS.field(name) for name in ("whole_words", "substring", "exact")],
    ]
)


# The answers of a base and of one fine-tuned model to a user's own questions (`evaluation/check_up.py`).
CHECK_UP = pa.schema(
    [
        pa.field("question", pa.string(), False),
        pa.field("topic", pa.string(), True, {"doc": "of the question, where the file names one"}),
        pa.field("answers", pa.list_(pa.string()), False, {"doc": "objects that count as correct"}),
        pa.field("base_output", pa.string(), False, {"doc": "greedy answer of the base"}),
        pa.field("tuned_output", pa.string(), False, {"doc": "greedy answer of the fine-tuned model"}),
        pa.field("base_correct", pa.bool_(), False),
        pa.field("tuned_correct", pa.bool_(), False),
        pa.field(
            "base_logprob",
            pa.float32(),
            False,
            {"doc": "mean log-probability of the first answer's tokens by the base, in nats"},
        ),
        pa.field("tuned_logprob", pa.float32(), False, {"doc": "the same by the fine-tuned model"}),
        pa.field("outcome", pa.string(), False, {"doc": "kept, lost, learned or unknown"}),
    ]
)


# The answers of one model to the examples of a task (`evaluation/tasks.py`), ungraded.
TASK_OUTCOMES = pa.schema(
    [
        pa.field("example", pa.int32(), False, {"doc": "its line in the file of the task, from 1"}),
        pa.field("half", pa.string(), False, {"doc": "dev, where restored models are chosen, or test"}),
        pa.field("expected", pa.list_(pa.string()), False, {"doc": "answers that count"}),
        pa.field("output", pa.string(), True, {"doc": "greedy answer; null with loglikelihood"}),
        pa.field(
            "logprob",
            pa.float32(),
            True,
            {"doc": "mean log-probability of the first expected answer's tokens, in nats; null with other metrics"},
        ),
    ]
)


# The scores of all models of one base model on the examples of all tasks.
TASK_ANSWERS = pa.schema(
    [
        ANSWERS.field("run"),
        *[ANSWERS.field(name) for name in ("strategy", "region", "percent")],
        pa.field("task", pa.string(), False),
        *TASK_OUTCOMES,
        pa.field("score", pa.float64(), False, {"doc": "1 or 0, or with loglikelihood the log-probability in nats"}),
    ]
)
