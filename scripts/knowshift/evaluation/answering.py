"""Asking a model closed-book questions: its greedy answers and its first-token logits (paper, section 3.3).

Answers are stored ungraded. They are graded from the stored text later, so a new synonym or matching rule needs no new
run of a model.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from knowshift.allowed_values import Bos
from knowshift.evaluation.schemas import FIRST_TOKENS, LEADING_LOGITS, OUTCOMES
from knowshift.facts.templates import SUBJECT, PromptTemplate
from knowshift.generation.interface import Decoding, GenerationEngine, Prompt, PromptResult
from knowshift.models.tokenizing import ChatPrompt, encode, encode_examples


def answer_questions(
    engine: GenerationEngine,
    tokenizer: PreTrainedTokenizerBase,
    questions: pa.Table,
    prompt: PromptTemplate | ChatPrompt,
    decoding: Decoding,
    on_done: Callable[[int, int], None] | None = None,
    bos: Bos = "as_tokenizer",
) -> pa.Table:
    """Ask a model questions, and compute the log-probabilities of the right answer and of the given one to each.

    Args:
        engine: the model.
        tokenizer: the model's tokenizer.
        questions: Q rows with at least the columns fact_id, set, question and object.
        prompt: how a question is formatted.
        decoding: greedy decoding, with the token limit of an answer.
        on_done: called with (row of `questions`, 0) whenever a question is answered.
        bos: whether BOS stands before a formatted question, see `encode`.

    Returns:
        Q rows in the schema `OUTCOMES`, in the order of `questions`.
    """
    asked = [prompt.ask(question) for question in questions["question"].to_pylist()]
    replies = [prompt.reply(object_) for object_ in questions["object"].to_pylist()]

    prompts = [
        Prompt(tuple(ids[:start]), forced=tuple(ids[start:-1]), text=text)  # the object's tokens, without the end token
        for text, (ids, start) in zip(asked, encode_examples(tokenizer, asked, replies, bos), strict=True)
    ]
    first: list[tuple[list[int], list[float]]] = [([], [])] * len(prompts)
    gold, given = [0.0] * len(prompts), [(0.0, 0)] * len(prompts)

    def keep(result: PromptResult) -> None:
        best = result.logits.float().topk(min(FIRST_TOKENS, len(result.logits)))
        first[result.index] = (best.indices.tolist(), best.values.tolist())
        gold[result.index] = sum(result.forced) / len(result.forced)

    def keep_scores(index: int, _: int, scores: list[float]) -> None:
        given[index] = (sum(scores) / len(scores), len(scores))

    outputs = engine.generate(prompts, decoding, keep, on_done, FIRST_TOKENS, keep_scores)
    answers = tokenizer.batch_decode([ids for (ids,) in outputs], skip_special_tokens=True)
    columns = [
        questions["fact_id"],
        questions["set"],
        answers,
        gold,
        [logprob for logprob, _ in given],
        [tokens for _, tokens in given],
        [ids for ids, _ in first],
        [values for _, values in first],
    ]
    return pa.table(columns, names=OUTCOMES.names).cast(OUTCOMES)


def first_lines(outcomes: pa.Table) -> pa.Table:
    """Cut answers at their first line break, where an answer after examples ends."""
    lines = [text.lstrip("\n").partition("\n")[0] for text in outcomes["output"].to_pylist()]
    column = outcomes.schema.get_field_index("output")
    return outcomes.set_column(column, outcomes.schema.field(column), pa.array(lines, pa.string()))


def leading_logits(
    engine: GenerationEngine,
    tokenizer: PreTrainedTokenizerBase,
    facts: pa.Table,
    templates: Mapping[str, Sequence[str]],
    decoding: Decoding,
    on_done: Callable[[int, int], None] | None = None,
    bos: Bos = "as_tokenizer",
) -> pa.Table:
    """Compute the pre-trained model's logits of all V tokens right after each fact's completion template.

    Args:
        engine: the pre-trained model.
        tokenizer: the model's tokenizer.
        facts: F facts that `leading_facts` chose.
        templates: completion templates by topic.
        decoding: only its end tokens are used.
        on_done: called with (row of `facts`, 0) whenever a fact is done.
        bos: whether BOS stands before a template, see `encode`.

    Returns:
        F rows in the schema `LEADING_LOGITS`, with V logits each.
    """
    columns = (facts[name].to_pylist() for name in ("topic", "subject", "template"))
    texts = [
        templates[topic][int(template)].replace(SUBJECT, subject)
        for topic, subject, template in zip(*columns, strict=True)
    ]
    logits: list[np.ndarray] = [np.empty(0, np.float32)] * len(texts)

    def keep(result: PromptResult) -> None:
        # A copy, since a view would keep the logits of the whole pass in memory.
        logits[result.index] = result.logits.float().cpu().numpy().copy()

    one_token = Decoding(1, decoding.end_ids)
    ids_of = zip(texts, encode(tokenizer, texts, bos), strict=True)
    engine.generate([Prompt(tuple(ids), text=text) for text, ids in ids_of], one_token, keep, on_done)
    ends = np.cumsum([0, *map(len, logits)], dtype=np.int32)
    values = pa.ListArray.from_arrays(ends, np.concatenate([np.empty(0, np.float32), *logits]))
    return pa.table([facts["fact_id"], facts["template"], values], names=LEADING_LOGITS.names).cast(LEADING_LOGITS)
