"""Closed-book questions to a model: what it answers, greedily, and what it would say first (paper, section 3.3).

Outputs are stored ungraded: whether they are right is decided from them later, so a new synonym or matching rule asks no
model again.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from knowshift.evaluation.schemas import FIRST_TOKENS, LEADING_LOGITS, OUTCOMES
from knowshift.facts.templates import SUBJECT, PromptTemplate
from knowshift.generation.interface import Decoding, Prompt, Read
from knowshift.generation.torch_engine import Engine
from knowshift.models.tokenizing import ChatPrompt, encode, encode_examples


def score(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    questions: pa.Table,
    prompt: PromptTemplate | ChatPrompt,
    decoding: Decoding,
    on_done: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Ask every question.

    Args:
        questions: Q rows with at least fact_id, set, question and object.
        prompt: how a question is put.
        decoding: greedy, with the token limit.
        on_done: called whenever a question is answered.

    Returns:
        Q rows in the schema `OUTCOMES`, in the order of `questions`.
    """
    asked = [prompt.ask(question) for question in questions["question"].to_pylist()]
    replies = [prompt.reply(object_) for object_ in questions["object"].to_pylist()]

    prompts = [
        Prompt(tuple(ids[:start]), forced=tuple(ids[start:-1]))  # the object's tokens, without the end token
        for ids, start in encode_examples(tokenizer, asked, replies)
    ]
    first: list[tuple[list[int], list[float]]] = [([], [])] * len(prompts)
    gold = [0.0] * len(prompts)

    def keep(read: Read) -> None:
        best = read.logits.float().topk(min(FIRST_TOKENS, len(read.logits)))
        first[read.index] = (best.indices.tolist(), best.values.tolist())
        gold[read.index] = sum(read.forced) / len(read.forced)

    outputs = engine.generate(prompts, decoding, keep, on_done, FIRST_TOKENS)
    answers = tokenizer.batch_decode([ids for (ids,) in outputs], skip_special_tokens=True)
    columns = [
        questions["fact_id"],
        questions["set"],
        answers,
        gold,
        [ids for ids, _ in first],
        [values for _, values in first],
    ]
    return pa.table(columns, names=OUTCOMES.names).cast(OUTCOMES)


def leading_logits(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    facts: pa.Table,
    templates: Mapping[str, Sequence[str]],
    decoding: Decoding,
    on_done: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """The pre-trained model's logits of every token at the first answer position of each fact's completion template.

    Args:
        facts: as `leading_facts` gives them.
        templates: topic to completion templates.

    Returns:
        Rows in the schema `LEADING_LOGITS`.
    """
    columns = (facts[name].to_pylist() for name in ("topic", "subject", "template"))
    texts = [templates[topic][place].replace(SUBJECT, subject) for topic, subject, place in zip(*columns, strict=True)]
    logits: list[np.ndarray] = [np.empty(0, np.float32)] * len(texts)

    def keep(read: Read) -> None:
        logits[read.index] = read.logits.float().cpu().numpy().copy()  # not a part of what else was read

    one_token = Decoding(1, decoding.end_ids)
    engine.generate([Prompt(tuple(ids)) for ids in encode(tokenizer, texts)], one_token, keep, on_done)
    ends = np.cumsum([0, *map(len, logits)], dtype=np.int32)
    values = pa.ListArray.from_arrays(ends, np.concatenate([np.empty(0, np.float32), *logits]))
    return pa.table([facts["fact_id"], facts["template"], values], names=LEADING_LOGITS.names).cast(LEADING_LOGITS)
