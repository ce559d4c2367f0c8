"""Closed-book questions to a model: what it answers, greedily, and what it would say first (paper, section 3.3).

Outputs are stored ungraded: whether they are right is decided from them later, so a new synonym or matching rule asks no
model again.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from knowshift.generation import Decoding, Prompt, generate
from knowshift.outcomes import FIRST_TOKENS, LEADING_LOGITS, OUTCOMES
from knowshift.progress import progress
from knowshift.prompts import encode
from knowshift.templates import SUBJECT, PromptTemplate


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: pa.Table,
    prompt: PromptTemplate,
    decoding: Decoding,
    what: str = "scoring",
) -> pa.Table:
    """Ask every question.

    Args:
        questions: Q rows with at least fact_id, set and question.
        prompt: how a question is put.
        decoding: greedy, with the token limit.

    Returns:
        Q rows in the schema `OUTCOMES`, in the order of `questions`.
    """
    texts = [prompt.ask(question) for question in questions["question"].to_pylist()]
    prompts = [Prompt(tuple(ids)) for ids in encode(tokenizer, texts)]
    first: list[tuple[list[int], list[float]]] = [([], [])] * len(prompts)

    def keep(index: int, logits: torch.Tensor) -> None:
        best = logits.float().topk(min(FIRST_TOKENS, len(logits)))
        first[index] = (best.indices.tolist(), best.values.tolist())

    with progress(what=what, unit="questions", total=len(prompts)) as bar:
        outputs = generate(model, prompts, decoding, on_first_logits=keep, on_done=lambda *_: bar.update())
    answers = tokenizer.batch_decode([ids for (ids,) in outputs], skip_special_tokens=True)
    columns = [
        questions["fact_id"],
        questions["set"],
        answers,
        [ids for ids, _ in first],
        [values for _, values in first],
    ]
    return pa.table(columns, names=OUTCOMES.names).cast(OUTCOMES)


def leading_logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: pa.Table,
    templates: Mapping[str, Sequence[str]],
    decoding: Decoding,
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
    logits: list[list[float]] = [[]] * len(texts)

    def keep(index: int, values: torch.Tensor) -> None:
        logits[index] = values.float().tolist()

    one_token = Decoding(1, decoding.end_ids, rows=decoding.rows, prompt_rows=decoding.prompt_rows)
    generate(model, [Prompt(tuple(ids)) for ids in encode(tokenizer, texts)], one_token, on_first_logits=keep)
    return pa.table([facts["fact_id"], facts["template"], logits], names=LEADING_LOGITS.names).cast(LEADING_LOGITS)
