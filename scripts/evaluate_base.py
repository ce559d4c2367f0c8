"""Score the pre-trained model: its answers to all questions, and its first-token logits on well-known facts.

    python scripts/evaluate_base.py --model base/ --mastery mastery.parquet --templates resources/templates \
        --prompt resources/prompt.yaml --outcomes outcomes.parquet --logits logits.parquet

Asks every in-domain training fact too, so that each training set has a "before".
"""

from collections.abc import Callable

from cli.asking import CHUNK, Asked, Asking
from cli.command_line import CommandLine, run

import pyarrow as pa
import pyarrow.compute as pc

from knowshift.evaluation.answering import leading_logits
from knowshift.evaluation.questions import leading_facts, select_questions
from knowshift.evaluation.schemas import LEADING_LOGITS
from knowshift.facts.templates import read_topic_templates
from knowshift.mastery.schemas import MASTERY
from knowshift.models.loading import check_model, load_model
from knowshift.runtime.device_lease import lease_device
from knowshift.runtime.parquet import read_table


def main() -> None:
    parser = CommandLine(__doc__, Asking)
    parser.path("--model", "model directory")
    parser.path("--mastery", "mastery table")
    parser.path("--templates", "directory of TOPIC.yaml")
    parser.path("--prompt", "prompt template (YAML)")
    parser.path("--outcomes", "table of answers to write (Parquet)")
    parser.path("--logits", "table of first-token logits to write (Parquet)")
    parser.execution(chunk=CHUNK, unit="questions")
    arguments, options = parser.read()

    mastery = read_table(arguments.mastery, MASTERY).replace_schema_metadata(None)
    held_out = select_questions(mastery, options.per_level, options.seed)
    train = mastery.filter(pc.and_(pc.equal(mastery["split"], "train"), pc.equal(mastery["domain"], "in_domain")))
    train = train.append_column("set", pa.array(["train"] * len(train), pa.string()))
    leading = leading_facts(held_out, mastery)
    topics = sorted(set(leading["topic"].to_pylist()))
    templates = {topic: read_topic_templates(arguments.templates / f"{topic}.yaml").completions for topic in topics}
    check_model(arguments.model)

    with lease_device(arguments.device, arguments.threads) as device:
        asked = Asked(arguments, options, lambda place: load_model(arguments.model, options.dtype, place), device, True)

        def logits(part: pa.Table, tick: Callable[..., None]) -> pa.Table:
            return leading_logits(asked.engine, asked.tokenizer, part, templates, asked.decoding, tick)

        asked.answer(pa.concat_tables([train, held_out]), arguments.outcomes, arguments.mastery)
        asked.write(leading, arguments.logits, LEADING_LOGITS, logits, (arguments.mastery, arguments.templates))


if __name__ == "__main__":
    run(main)
