"""Probing as scripts/probe_mastery.py does it: in chunks, with a model that is loaded when the first chunk needs it."""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from cli.engines import open_engine
from knowshift.generation.interface import Decoding, GenerationEngine
from knowshift.mastery.files import chunks_by_topic, read_completion_templates, read_facts
from knowshift.mastery.options import ProbingOptions
from knowshift.mastery.probing import probe
from knowshift.mastery.schemas import COMPLETIONS
from knowshift.models.loading import check_model, end_ids, load_model, load_tokenizer, trust_code_of
from knowshift.runtime.device_lease import lease_device
from knowshift.runtime.resumption import input_digests, write_in_chunks


def probe_facts(arguments: argparse.Namespace, options: ProbingOptions) -> None:
    """Sample completions of facts and write them, from where an interrupted job of the same inputs ended."""
    facts = read_facts(arguments.facts, options.split, options.facts_limit, options.seed)
    templates = {
        topic: read_completion_templates(arguments.templates, topic, options.templates)
        for topic in dict.fromkeys(facts["topic"].to_pylist())
    }
    check_model(arguments.model)
    if options.trust_remote_code:
        trust_code_of(arguments.model)
    per_fact = options.templates * options.samples
    size = max(1, arguments.chunk // per_fact)

    with ExitStack() as stack:

        @cache  # the model is loaded once, and only if a chunk is missing
        def loaded() -> tuple[GenerationEngine, PreTrainedTokenizerBase, Decoding]:
            device = stack.enter_context(lease_device(arguments.device, arguments.threads))
            tokenizer = load_tokenizer(arguments.model)
            decoding = Decoding(options.max_new_tokens, end_ids(arguments.model, tokenizer), options.temperature)
            load = partial(load_model, arguments.model, options.dtype)
            return open_engine(arguments, options, device, load, as_stored=True), tokenizer, decoding

        def make(part: pa.Table, tick: Callable[..., None]) -> pa.Table:
            engine, tokenizer, decoding = loaded()
            asked = templates[part["topic"][0].as_py()]
            return probe(engine, tokenizer, part, asked, options.samples, decoding, options.seed, tick, options.bos)

        write_in_chunks(
            arguments.output,
            {
                "options": options.model_dump(),
                "inputs": input_digests(arguments.model, arguments.facts, arguments.templates),
                "code": arguments.code,
                "chunk": size,
            },
            COMPLETIONS,
            chunks_by_topic(facts, size),
            make,
            "completions",
            per_fact,
            {"templates": options.templates, "samples": options.samples},
        )
