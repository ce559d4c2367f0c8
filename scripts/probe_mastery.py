"""Sample completions of facts from a pre-trained model, to measure how well it knows them.

    python scripts/probe_mastery.py --model base/ --facts facts/P36.parquet --split test \
        --templates resources/templates/P36.yaml --output completions.parquet

Whole completions are stored; whether they hold the object is decided later (grade_mastery.py).
"""

import hashlib
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from command_line import CommandLine, option, run
from knowshift.artifacts import read_manifest, read_table, write_table
from knowshift.completions import COMPLETIONS
from knowshift.devices import lease_device
from knowshift.errors import KnowshiftError
from knowshift.facts import FACTS
from knowshift.generation import Decoding
from knowshift.models import end_ids, load_model, load_tokenizer
from knowshift.probing import probe
from knowshift.randomness import derive_seed
from knowshift.templates import read_topic_templates


@dataclass(frozen=True)
class Options:
    split: str = option("train, dev or test")
    seed: int = option("the experiment's seed", 1)
    templates_used: int = option("how many completion templates, from the first", 21)
    samples: int = option("completions sampled per template", 10)
    temperature: float = option("sampling temperature", 0.7)
    max_new_tokens: int = option("token limit of a completion", 32)
    facts_limit: int | None = option("probe at most so many facts, chosen by hash", None)
    dtype: str = option("float32, bfloat16 or float16", "float32")
    rows: int = option("rows of a decoding pass; changes low bits", 64)
    prompt_rows: int = option("rows of a prompt pass; changes low bits", 16)


def choose(facts: pa.Table, limit: int | None, seed: int) -> pa.Table:
    """At most `limit` facts, by seeded hash, in table order."""
    if limit is None or len(facts) <= limit:
        return facts
    ids = facts["fact_id"].to_pylist()
    ranked = sorted(ids, key=lambda fact: hashlib.blake2b(str(derive_seed(seed, "limit", fact)).encode()).digest())
    return facts.filter(pc.is_in(facts["fact_id"], pa.array(ranked[:limit])))


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--model", "model directory")
    parser.path("--facts", "facts table")
    parser.path("--templates", "the topic's templates (TOPIC.yaml)")
    parser.path("--output", "completions table to write (Parquet)")
    parser.execution()
    arguments, options = parser.read()

    templates = read_topic_templates(arguments.templates).completions
    if len(templates) < options.templates_used:
        raise KnowshiftError(
            f"{arguments.templates} has {len(templates)} completion templates, but mastery.templates is "
            f"{options.templates_used}; write more or lower it"
        )
    facts = read_table(arguments.facts, FACTS)
    facts = choose(facts.filter(pc.equal(facts["split"], options.split)), options.facts_limit, options.seed)
    if (arguments.model / "manifest.json").is_file():
        read_manifest(arguments.model)
    with lease_device(arguments.device, arguments.threads) as device:
        model, tokenizer = load_model(arguments.model, options.dtype, device), load_tokenizer(arguments.model)
        decoding = Decoding(
            options.max_new_tokens, end_ids(model, tokenizer), options.temperature, options.rows, options.prompt_rows
        )
        used = templates[: options.templates_used]
        table = probe(model, tokenizer, facts, used, options.samples, decoding, options.seed)
    write_table(arguments.output, table, COMPLETIONS, {"templates": options.templates_used, "samples": options.samples})


if __name__ == "__main__":
    run(main)
