"""Probes a model: it samples completions of every fact and stores them whole, without grading (paper, section 3.2)."""

from collections.abc import Callable, Sequence

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from knowshift.allowed_values import Bos
from knowshift.facts.templates import SUBJECT
from knowshift.generation.interface import Decoding, GenerationEngine, Prompt
from knowshift.mastery.schemas import COMPLETIONS
from knowshift.models.tokenizing import control_tokens, encode
from knowshift.randomness import derive_seed
from knowshift.runtime.errors import shown
from knowshift.runtime.progress import start_logging


def probe(
    engine: GenerationEngine,
    tokenizer: PreTrainedTokenizerBase,
    facts: pa.Table,
    templates: Sequence[str],
    samples: int,
    decoding: Decoding,
    seed: int,
    on_done: Callable[[int, int], None] | None = None,
    bos: Bos = "as_tokenizer",
) -> pa.Table:
    """Sample completions of every fact that the model can read, see `readable_facts`.

    Args:
        engine: generates text with the model.
        tokenizer: the model's tokenizer.
        facts: F facts with at least the columns fact_id and subject, all of one topic.
        templates: the topic's T completion templates.
        samples: S, the number of samples per template.
        decoding: temperature and token limit.
        seed: the experiment's seed. A completion depends only on it, the fact, the template and the number of the
            sample.
        on_done: called whenever a completion is finished, with the indices of its prompt and its sample.
        bos: whether BOS stands before a template, see `encode`.

    Returns:
        T x S rows per readable fact in the schema `COMPLETIONS`, ordered by fact, then template, then sample.
    """
    facts = readable_facts(engine, tokenizer, facts, templates, decoding, bos)
    rows = [
        (fact_id, template, text.replace(SUBJECT, subject))
        for fact_id, subject in zip(facts["fact_id"].to_pylist(), facts["subject"].to_pylist(), strict=True)
        for template, text in enumerate(templates)
    ]
    every_ids = encode(tokenizer, [text for *_, text in rows], bos)
    prompts = [
        Prompt(
            tuple(ids),
            tuple(derive_seed(seed, "probe", fact_id, template, sample) for sample in range(samples)),
            text=text,
        )
        for (fact_id, template, text), ids in zip(rows, every_ids, strict=True)
    ]
    outputs = engine.generate(prompts, decoding, on_done=on_done)
    texts = tokenizer.batch_decode([ids for prompt in outputs for ids in prompt], skip_special_tokens=True)
    repeated = [(fact_id, template, sample) for fact_id, template, _ in rows for sample in range(samples)]
    columns = [list(column) for column in zip(*repeated, strict=True)] if repeated else [[], [], []]
    return pa.table([*columns, texts], names=COMPLETIONS.names).cast(COMPLETIONS)


def readable_facts(
    engine: GenerationEngine,
    tokenizer: PreTrainedTokenizerBase,
    facts: pa.Table,
    templates: Sequence[str],
    decoding: Decoding,
    bos: Bos = "as_tokenizer",
) -> pa.Table:
    """Leave out the facts that a model cannot read, and name them in the log; their mastery is not measured.

    These are facts that hold a control token of the tokenizer, such as `</s>`, which the model would take for the end
    of a text; and those for whose prompts and completions the model has too few positions.

    Args:
        engine, tokenizer, facts, templates, decoding, bos: as `probe` takes them.

    Returns:
        The readable facts, in their order.
    """
    kept, control = [], control_tokens(tokenizer)
    for index, row in enumerate(facts.to_pylist()):
        written = "\n".join(row[name] for name in ("subject", "object", "question") if row.get(name))
        problem = ""
        if token := next((token for token in control if token in written), None):
            problem = f"it holds the control token {token!r} of this model's tokenizer"
        elif engine.positions is not None:
            texts = [text.replace(SUBJECT, row["subject"]) for text in templates]
            needed = decoding.max_new_tokens + max((2 + len(text.encode()) for text in texts), default=0)
            if needed > engine.positions:  # by bytes, of which no tokenizer makes more tokens
                prompts = encode(tokenizer, texts, bos)
                needed = decoding.max_new_tokens + max(map(len, prompts), default=0)
            if needed > engine.positions:
                problem = f"it takes {needed:,} positions, and this model has learned {engine.positions:,}"
        if problem:
            start_logging().warning("not probed: the fact %s, %s: %s", row["fact_id"], shown(row["subject"]), problem)
        else:
            kept.append(index)
    return facts if len(kept) == len(facts) else facts.take(pa.array(kept, pa.int64()))
