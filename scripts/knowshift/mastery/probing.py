"""Mastery probing: sampled completions of every fact, stored whole; objects are not looked at (paper, section 3.2)."""

from collections.abc import Callable, Sequence

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from knowshift.facts.templates import SUBJECT
from knowshift.generation.interface import Decoding, Prompt
from knowshift.generation.torch_engine import Engine
from knowshift.mastery.schemas import COMPLETIONS
from knowshift.models.tokenizing import encode
from knowshift.randomness import derive_seed


def probe(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    facts: pa.Table,
    templates: Sequence[str],
    samples: int,
    decoding: Decoding,
    seed: int,
    on_done: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Sample completions of every fact.

    Args:
        facts: F facts with at least fact_id and subject.
        templates: T completion templates.
        samples: S samples per template.
        decoding: temperature and token limit.
        seed: the experiment's seed; a completion depends on it, the fact, the template and the sample number alone.
        on_done: called whenever a completion is finished.

    Returns:
        F x T x S rows in the schema `COMPLETIONS`, in the order of fact, template, sample.
    """
    rows = [
        (fact_id, template, text.replace(SUBJECT, subject))
        for fact_id, subject in zip(facts["fact_id"].to_pylist(), facts["subject"].to_pylist(), strict=True)
        for template, text in enumerate(templates)
    ]
    prompts = [
        Prompt(tuple(ids), tuple(derive_seed(seed, "probe", fact_id, template, sample) for sample in range(samples)))
        for (fact_id, template, _), ids in zip(rows, encode(tokenizer, [text for *_, text in rows]), strict=True)
    ]
    outputs = engine.generate(prompts, decoding, on_done=on_done)
    texts = tokenizer.batch_decode([ids for prompt in outputs for ids in prompt], skip_special_tokens=True)
    repeated = [(fact_id, template, sample) for fact_id, template, _ in rows for sample in range(samples)]
    columns = [list(column) for column in zip(*repeated, strict=True)] if repeated else [[], [], []]
    return pa.table([*columns, texts], names=COMPLETIONS.names).cast(COMPLETIONS)
