"""Score the pre-trained model: its answers to all questions, and its first-token logits on well-known facts.

    python scripts/score_base.py --model base/ --mastery mastery.parquet --templates resources/templates \
        --prompt resources/prompt.yaml --outcomes outcomes.parquet --logits logits.parquet

Asks every in-domain training fact too, so that each training set has a "before".
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from command_line import CommandLine, option, run
from knowshift.artifacts import read_manifest, read_table, write_table
from knowshift.devices import lease_device
from knowshift.generation import Decoding
from knowshift.mastery import MASTERY
from knowshift.models import end_ids, load_model, load_tokenizer
from knowshift.outcomes import LEADING_LOGITS, OUTCOMES
from knowshift.questions import leading_facts, select_questions
from knowshift.scoring import leading_logits, score
from knowshift.templates import read_prompt_template, read_topic_templates


@dataclass(frozen=True)
class Options:
    per_level: dict = option("questions per mastery level of each set, as JSON; null takes all")
    seed: int = option("the experiment's seed", 1)
    max_new_tokens: int = option("token limit of an answer", 16)
    dtype: str = option("float32, bfloat16 or float16", "float32")
    rows: int = option("rows of a decoding pass; changes low bits", 32)
    prompt_rows: int = option("rows of a prompt pass; changes low bits", 8)


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--model", "model directory")
    parser.path("--mastery", "mastery table")
    parser.path("--templates", "directory of TOPIC.yaml")
    parser.path("--prompt", "prompt template (YAML)")
    parser.path("--outcomes", "table of answers to write (Parquet)")
    parser.path("--logits", "table of first-token logits to write (Parquet)")
    parser.execution()
    arguments, options = parser.read()

    prompt = read_prompt_template(arguments.prompt)
    mastery = read_table(arguments.mastery, MASTERY).replace_schema_metadata(None)
    held_out = select_questions(mastery, options.per_level, options.seed)
    train = mastery.filter(pc.and_(pc.equal(mastery["split"], "train"), pc.equal(mastery["domain"], "in_domain")))
    train = train.append_column("set", pa.array(["train"] * len(train), pa.string()))
    leading = leading_facts(held_out, mastery)
    topics = sorted(set(leading["topic"].to_pylist()))
    templates = {topic: read_topic_templates(arguments.templates / f"{topic}.yaml").completions for topic in topics}

    if (arguments.model / "manifest.json").is_file():
        read_manifest(arguments.model)
    with lease_device(arguments.device, arguments.threads) as device:
        model, tokenizer = load_model(arguments.model, options.dtype, device), load_tokenizer(arguments.model)
        decoding = Decoding(
            options.max_new_tokens, end_ids(model, tokenizer), rows=options.rows, prompt_rows=options.prompt_rows
        )
        outcomes = score(model, tokenizer, pa.concat_tables([train, held_out]), prompt, decoding)
        logits = leading_logits(model, tokenizer, leading, templates, decoding)
    write_table(arguments.outcomes, outcomes, OUTCOMES)
    write_table(arguments.logits, logits, LEADING_LOGITS)


if __name__ == "__main__":
    run(main)
