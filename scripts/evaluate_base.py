r"""Ask the pre-trained model all questions, with examples too, and store first-token logits of well-known facts.

    python scripts/evaluate_base.py --model base/ --mastery mastery.parquet --templates resources/templates \
        --prompt resources/prompt.yaml --outcomes outcomes.parquet --few-shot-outcomes few_shot.parquet \
        --logits logits.parquet

It is asked every in-domain training fact too, so that each training set has answers from before training. Held-out
questions are asked a second time after answered examples, which show the form of an answer.
"""

from functools import partial

from cli.command_line import CommandLine, quick_imports, run
from knowshift.evaluation.options import QUESTIONS_PER_CHUNK, BaseOptions


def main() -> None:
    """Read the command line, ask, and write the tables."""
    parser = CommandLine(__doc__, BaseOptions)
    parser.folder("--model", "Model directory.")
    parser.file("--mastery", "Mastery table (Parquet).")
    parser.folder("--templates", "Folder of TOPIC.yaml.")
    parser.file("--prompt", "Prompt template (YAML).")
    parser.new_file("--outcomes", "Table of answers to write (Parquet).")
    parser.new_file(
        "--few-shot-outcomes", "Table of answers after examples to write (Parquet); empty without examples."
    )
    parser.new_file("--logits", "Table of first-token logits to write (Parquet).")
    parser.execution(QUESTIONS_PER_CHUNK)
    arguments, options = parser.read()
    with quick_imports():
        from cli.asking import AskedModel
        from knowshift.evaluation.questions import base_questions, few_shot_examples, leading_facts, select_questions
        from knowshift.mastery.schemas import MASTERY
        from knowshift.models.loading import check_model, load_model
        from knowshift.runtime.device_lease import lease_device
        from knowshift.runtime.parquet import read_table

    mastery = read_table(arguments.mastery, MASTERY).replace_schema_metadata(None)
    questions = base_questions(mastery, {**options.per_level}, options.seed)
    leading = leading_facts(questions, mastery)
    held_out = select_questions(mastery, {**options.per_level}, options.seed)
    examples = few_shot_examples(mastery, options.few_shot, options.seed)
    check_model(arguments.model)
    with lease_device(arguments.device, arguments.threads) as device:
        load = partial(load_model, arguments.model, options.dtype)
        asked = AskedModel(arguments, options, load, device, as_stored=True)
        asked.answer(questions, arguments.outcomes, arguments.mastery)
        asked.answer_few_shot(held_out, examples, arguments.few_shot_outcomes, arguments.mastery)
        asked.write_leading_logits(leading, arguments.templates, arguments.logits, arguments.mastery)


if __name__ == "__main__":
    run(main)
