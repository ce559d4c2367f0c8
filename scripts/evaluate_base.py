r"""Ask the pre-trained model all questions, and store its first-token logits on well-known facts.

    python scripts/evaluate_base.py --model base/ --mastery mastery.parquet --templates resources/templates \
        --prompt resources/prompt.yaml --outcomes outcomes.parquet --logits logits.parquet

It is asked every in-domain training fact too, so that each training set has answers from before training.
"""

from functools import partial

from cli.command_line import CommandLine, quick_imports, run
from knowshift.evaluation.options import QUESTIONS_PER_CHUNK, AskingOptions


def main() -> None:
    """Read the command line, ask, and write the tables."""
    parser = CommandLine(__doc__, AskingOptions)
    parser.path("--model", "Model directory.")
    parser.path("--mastery", "Mastery table (Parquet).")
    parser.path("--templates", "Folder of TOPIC.yaml.")
    parser.path("--prompt", "Prompt template (YAML).")
    parser.path("--outcomes", "Table of answers to write (Parquet).")
    parser.path("--logits", "Table of first-token logits to write (Parquet).")
    parser.execution(chunk=QUESTIONS_PER_CHUNK, unit="questions")
    arguments, options = parser.read()
    with quick_imports():
        from cli.asking import AskedModel
        from knowshift.evaluation.questions import base_questions, leading_facts
        from knowshift.mastery.schemas import MASTERY
        from knowshift.models.loading import check_model, load_model
        from knowshift.runtime.device_lease import lease_device
        from knowshift.runtime.parquet import read_table

    mastery = read_table(arguments.mastery, MASTERY).replace_schema_metadata(None)
    questions = base_questions(mastery, {**options.per_level}, options.seed)
    leading = leading_facts(questions, mastery)
    check_model(arguments.model)
    with lease_device(arguments.device, arguments.threads) as device:
        load = partial(load_model, arguments.model, options.dtype)
        asked = AskedModel(arguments, options, load, device, as_stored=True)
        asked.answer(questions, arguments.outcomes, arguments.mastery)
        asked.write_leading_logits(leading, arguments.templates, arguments.logits, arguments.mastery)


if __name__ == "__main__":
    run(main)
