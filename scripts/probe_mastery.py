"""Sample completions of facts from a pre-trained model, to measure how well it knows them.

    python scripts/probe_mastery.py --model base/ --facts facts.parquet --templates resources/templates --output completions.parquet

The facts are a table that build_facts.py makes; templates are a TOPIC.yaml, or a folder of them. Whole completions are stored;
whether they hold the object is decided later (grade_mastery.py). An interrupted job goes on from its last finished chunk.
"""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from cli.command_line import CommandLine, option, run
from cli.engines import open_engine

import pyarrow as pa
import pyarrow.compute as pc

from knowshift.allowed_values import Dtype, EngineName
from knowshift.facts.schemas import FACTS
from knowshift.facts.templates import read_topic_templates
from knowshift.generation.interface import Decoding
from knowshift.generation.torch_engine import Engine
from knowshift.mastery.probing import probe
from knowshift.mastery.schemas import COMPLETIONS
from knowshift.models.loading import check_model, end_ids, load_model, load_tokenizer
from knowshift.randomness import derive_seed
from knowshift.runtime.device_lease import lease_device
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.parquet import read_table
from knowshift.runtime.resumption import input_digests, write_in_chunks


@dataclass(frozen=True)
class Options:
    split: Literal["train", "dev", "test"] | None = option("null takes all facts", None)
    seed: int = option("the experiment's seed", 1)
    templates_used: int = option("how many completion templates, from the first", 21)
    samples: int = option("completions sampled per template", 10)
    temperature: float = option("sampling temperature", 0.7)
    max_new_tokens: int = option("token limit of a completion", 32)
    facts_limit: int | None = option("probe at most so many facts, chosen by hash", None)
    dtype: Dtype = option("type to compute in", "float32")
    rows: int = option("tokens of a forward pass; changes low bits", 64)
    engine: EngineName = option("vllm is for GPUs; it draws and rounds its own way", "torch")


def choose(facts: pa.Table, limit: int | None, seed: int) -> pa.Table:
    """At most `limit` facts, by seeded hash, in table order."""
    if limit is None or len(facts) <= limit:
        return facts
    ids = facts["fact_id"].to_pylist()
    ranked = sorted(ids, key=lambda fact: hashlib.blake2b(str(derive_seed(seed, "limit", fact)).encode()).digest())
    return facts.filter(pc.is_in(facts["fact_id"], pa.array(ranked[:limit])))


def completion_templates(path: Path, topic: str, used: int) -> tuple[str, ...]:
    """The first completion templates of a topic."""
    file = path / f"{topic}.yaml" if path.is_dir() else path
    templates = read_topic_templates(file).completions
    if len(templates) < used:
        raise KnowshiftError(
            f"{file} has {len(templates)} completion templates, but mastery.templates is {used}; write more or lower it"
        )
    return templates[:used]


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--model", "model directory")
    parser.path("--facts", "facts table")
    parser.path("--templates", "the topic's templates (TOPIC.yaml), or a folder of them")
    parser.path("--output", "completions table to write (Parquet)")
    parser.execution(chunk=16384, unit="completions")
    arguments, options = parser.read()

    facts = read_table(arguments.facts, FACTS).replace_schema_metadata(None)
    if options.split is not None:
        facts = facts.filter(pc.equal(facts["split"], options.split))
    facts = choose(facts, options.facts_limit, options.seed)
    topics = list(dict.fromkeys(facts["topic"].to_pylist()))
    used = {topic: completion_templates(arguments.templates, topic, options.templates_used) for topic in topics}
    check_model(arguments.model)

    per_fact = options.templates_used * options.samples
    size = max(1, arguments.chunk // per_fact)
    members = [facts.filter(pc.equal(facts["topic"], topic)) for topic in topics]
    parts = [part.slice(start, size) for part in members for start in range(0, len(part), size)]

    with ExitStack() as stack:

        @cache  # only where a chunk is missing
        def engine() -> tuple[Engine, object, Decoding]:
            device = stack.enter_context(lease_device(arguments.device, arguments.threads))
            tokenizer = load_tokenizer(arguments.model)
            decoding = Decoding(options.max_new_tokens, end_ids(arguments.model, tokenizer), options.temperature)
            running = open_engine(
                arguments,
                options,
                device,
                lambda place: load_model(arguments.model, options.dtype, place),
                as_it_is=True,
            )
            return running, tokenizer, decoding

        def make(part: pa.Table, tick: Callable[..., None]) -> pa.Table:
            running, tokenizer, decoding = engine()
            templates = used[part["topic"][0].as_py()]
            return probe(running, tokenizer, part, templates, options.samples, decoding, options.seed, tick)

        inputs = input_digests(arguments.model, arguments.facts, arguments.templates)
        write_in_chunks(
            arguments.output,
            {"options": asdict(options), "inputs": inputs, "code": arguments.code, "chunk": size},
            COMPLETIONS, parts, make, "completions", per_fact,
            {"templates": options.templates_used, "samples": options.samples},
        )  # fmt: skip


if __name__ == "__main__":
    run(main)
