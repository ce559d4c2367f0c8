"""Closed-book questions to a model: what it answers, greedily, and what it would say first (paper, section 3.3).

Outputs are stored ungraded: whether they are right is decided from them later, so a new synonym or matching rule asks no
model again.
"""

import hashlib
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from knowshift.generation import Decoding, Prompt, generate
from knowshift.progress import progress
from knowshift.prompts import encode
from knowshift.randomness import derive_seed
from knowshift.templates import PromptTemplate

FIRST_TOKENS = 100  # how many of the highest first-token logits are kept

OUTCOMES = pa.schema(
    [
        pa.field("fact_id", pa.string(), False),
        pa.field("set", pa.string(), False, {"doc": "training_set, train, dev, test, dev_ood or test_ood"}),
        pa.field("output", pa.string(), False, {"doc": "greedy answer"}),
        pa.field("first_tokens", pa.list_(pa.int32()), False, {"doc": "ids of the highest first-token logits, falling"}),
        pa.field("first_logits", pa.list_(pa.float32()), False, {"doc": "their logits"}),
    ]
)

LEADING_LOGITS = pa.schema(
    [
        pa.field("fact_id", pa.string(), False),
        pa.field("template", pa.int16(), False, {"doc": "the topic's best completion template"}),
        pa.field("logits", pa.list_(pa.float32()), False, {"doc": "of every token at the first answer position"}),
    ]
)


def question_set(domain: str, split: str) -> str:
    """The name of a set of questions: the split, with `_ood` for the other domain."""
    return split if domain == "in_domain" else f"{split}_ood"


def select_questions(mastery: pa.Table, per_level: Mapping[str, int | None], seed: int) -> pa.Table:
    """Which held-out questions are scored: of each set, up to so many of each mastery level, by seeded hash.

    Args:
        mastery: all levelled facts.
        per_level: question set to number per level; None takes all, a set not named takes none.
        seed: the experiment's seed.

    Returns:
        The facts of `mastery` that are scored, with a column `set`, in its order; the same for every model of a grid
        cell, so comparisons are paired.
    """
    kept, sets = [], []
    groups: dict[tuple[str, int], list[tuple[bytes, int]]] = {}
    for index, row in enumerate(mastery.select(["fact_id", "domain", "split", "level"]).to_pylist()):
        name = question_set(row["domain"], row["split"])
        sets.append(name)
        if row["split"] == "train" or name not in per_level:
            continue
        rank = hashlib.blake2b(str(derive_seed(seed, "question", row["fact_id"])).encode()).digest()
        groups.setdefault((name, row["level"]), []).append((rank, index))
    for (name, _), members in groups.items():
        kept += [index for _, index in sorted(members)[: per_level[name]]]
    return mastery.append_column("set", pa.array(sets, pa.string())).take(pa.array(sorted(kept), pa.int64()))


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
    columns = [questions["fact_id"], questions["set"], answers, [ids for ids, _ in first], [values for _, values in first]]
    return pa.table(columns, names=OUTCOMES.names).cast(OUTCOMES)


def best_templates(mastery: pa.Table) -> dict[str, int]:
    """Per topic, the completion template with the most successes over all its facts; the earliest of equals."""
    totals: dict[str, list[int]] = {}
    for topic, successes in zip(mastery["topic"].to_pylist(), mastery["successes"].to_pylist(), strict=True):
        sums = totals.setdefault(topic, [0] * len(successes))
        totals[topic] = [a + b for a, b in zip(sums, successes, strict=True)]
    return {topic: sums.index(max(sums)) for topic, sums in totals.items()}


def leading_facts(questions: pa.Table, mastery: pa.Table) -> pa.Table:
    """Level-4 test facts whose sampled answer stands at the start of a completion of the topic's best template.

    Returns:
        Rows of `questions` with a column `template` (section 3.4 of the paper).
    """
    best = best_templates(mastery)
    tests = pc.and_(pc.equal(questions["split"], "test"), pc.equal(questions["level"], 4))
    rows = questions.filter(tests)
    chosen = [best[topic] for topic in rows["topic"].to_pylist()]
    leads = [counts[place] > 0 for counts, place in zip(rows["leading"].to_pylist(), chosen, strict=True)]
    return rows.append_column("template", pa.array(chosen, pa.int16())).filter(pa.array(leads, pa.bool_()))


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
    texts = [templates[topic][place].replace("[X]", subject) for topic, subject, place in zip(*columns, strict=True)]
    logits: list[list[float]] = [[]] * len(texts)

    def keep(index: int, values: torch.Tensor) -> None:
        logits[index] = values.float().tolist()

    one_token = Decoding(1, decoding.end_ids, rows=decoding.rows, prompt_rows=decoding.prompt_rows)
    generate(model, [Prompt(tuple(ids)) for ids in encode(tokenizer, texts)], one_token, on_first_logits=keep)
    return pa.table([facts["fact_id"], facts["template"], logits], names=LEADING_LOGITS.names).cast(LEADING_LOGITS)


def cell_questions(
    mastery: pa.Table, per_level: Mapping[str, int | None], seed: int, trained: Sequence[str]
) -> pa.Table:
    """What a fine-tuned model is asked: the held-out questions, after some facts of its own training set.

    Args:
        trained: ids of the training facts to ask, in their order; their set is `training_set`.

    Returns:
        Columns fact_id, set, question.
    """
    columns = ["fact_id", "set", "question"]
    questions = dict(zip(mastery["fact_id"].to_pylist(), mastery["question"].to_pylist(), strict=True))
    own = [{"fact_id": fact, "set": "training_set", "question": questions[fact]} for fact in trained]
    held_out = select_questions(mastery, per_level, seed).select(columns)
    return pa.concat_tables([pa.Table.from_pylist(own, schema=held_out.schema), held_out])
