"""Ask a fine-tuned model the held-out questions, and some of its own training set.

    python scripts/evaluate.py --model base/ --delta delta/ --mastery mastery.parquet --order order.parquet \
        --prompt resources/prompt.yaml --output outcomes.parquet

Without --delta the model is scored as it is. Answers are stored ungraded.
"""

from dataclasses import dataclass

from command_line import CommandLine, option, run
from knowshift.artifacts import read_manifest, read_table, write_table
from knowshift.devices import lease_device
from knowshift.draws import ORDERS
from knowshift.generation import Decoding
from knowshift.mastery import MASTERY
from knowshift.models import end_ids, load_model, load_tokenizer
from knowshift.outcomes import OUTCOMES
from knowshift.questions import cell_questions
from knowshift.restored import load_tuned
from knowshift.scoring import score
from knowshift.templates import read_prompt_template


@dataclass(frozen=True)
class Options:
    per_level: dict = option("questions per mastery level of each set, as JSON; null takes all")
    training_set: int | None = option("questions from the training set, from the first; null takes all", 0)
    size: int | None = option("size of the training set; null: all of the order", None)
    seed: int = option("the experiment's seed", 1)
    max_new_tokens: int = option("token limit of an answer", 16)
    dtype: str = option("float32, bfloat16 or float16", "float32")
    rows: int = option("rows of a decoding pass; changes low bits", 32)
    prompt_rows: int = option("rows of a prompt pass; changes low bits", 8)


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--model", "model directory (the base)")
    parser.path("--delta", "delta directory", required=False)
    parser.path("--mastery", "mastery table")
    parser.path("--order", "order of training facts", required=False)
    parser.path("--prompt", "prompt template (YAML)")
    parser.path("--output", "table of answers to write (Parquet)")
    parser.execution()
    arguments, options = parser.read()

    prompt = read_prompt_template(arguments.prompt)
    mastery = read_table(arguments.mastery, MASTERY).replace_schema_metadata(None)
    order = read_table(arguments.order, ORDERS, ["fact_id"])["fact_id"].to_pylist() if arguments.order else []
    trained = order[: options.size][: options.training_set]
    questions = cell_questions(mastery, options.per_level, options.seed, trained)
    if (arguments.model / "manifest.json").is_file():
        read_manifest(arguments.model)
    with lease_device(arguments.device, arguments.threads) as device:
        tokenizer = load_tokenizer(arguments.model)
        if arguments.delta:
            model = load_tuned(arguments.model, arguments.delta, options.dtype, device, arguments.threads or 1)
        else:
            model = load_model(arguments.model, options.dtype, device)
        decoding = Decoding(
            options.max_new_tokens, end_ids(model, tokenizer), rows=options.rows, prompt_rows=options.prompt_rows
        )
        outcomes = score(model, tokenizer, questions, prompt, decoding)
    write_table(arguments.output, outcomes, OUTCOMES)


if __name__ == "__main__":
    run(main)
