r"""Ask a fine-tuned model the held-out questions and some of its own training set, or any model any questions.

    python scripts/evaluate.py --model base/ --delta delta/ --mastery mastery.parquet --order order.parquet \
        --prompt resources/prompt.yaml --output outcomes.parquet
    python scripts/evaluate.py --model DIR --questions FILE.jsonl --output answers.parquet

In the first form answers are stored ungraded; without --delta the model in --model is asked as it is. In the second,
each line of FILE is {"question": …, "answers": […]}, and the answers are graded; other keys are ignored. An interrupted
job goes on where it ended.
"""

from functools import partial
from pathlib import Path

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.facts import Writings
from knowshift.evaluation.options import QUESTIONS_PER_CHUNK, RunOptions

PROMPT = Path(__file__).parents[1] / "resources/prompt.yaml"


class Options(RunOptions, Writings):
    """How the model is asked, and how its answers to --questions are graded."""


def main() -> None:
    """Read the command line, ask, and write the table."""
    parser = CommandLine(__doc__, Options)
    parser.folder("--model", "Model directory (the base).")
    parser.folder("--delta", "Delta directory of the fine-tuned model.", required=False)
    parser.files_of_tuned()
    parser.file("--mastery", "Mastery table (Parquet).", required=False)
    parser.file("--order", "Order of training facts (Parquet).", required=False, bare=True)
    parser.file("--questions", "Questions with their answers (JSON lines), instead of --mastery.", required=False)
    parser.file("--prompt", f"Prompt template (default: {PROMPT.name} of this project).", default=PROMPT, bare=True)
    parser.new_file("--output", "Table of answers to write (Parquet).")
    parser.execution(QUESTIONS_PER_CHUNK)
    parser.exactly_one("--mastery", "--questions")
    arguments, options = parser.read()
    with quick_imports():
        from cli.asking import AskedModel, read_run_questions
        from knowshift.evaluation.user_questions import describe_grades
        from knowshift.models.loading import check_model, load_model
        from knowshift.models.tuned import load_tuned
        from knowshift.runtime.device_lease import lease_device
        from knowshift.runtime.progress import start_logging

    if arguments.delta:
        load = partial(
            load_tuned,
            arguments.model,
            arguments.delta,
            options.dtype,
            threads=arguments.threads or 1,
            settings=arguments.files,
        )
    else:
        load = partial(load_model, arguments.model, options.dtype)
    check_model(arguments.model)
    with lease_device(arguments.device, arguments.threads) as device:
        asked = AskedModel(arguments, options, load, device, as_stored=arguments.delta is None)
        if arguments.questions:
            asked.answer_file(arguments.questions, arguments.output, options.writings)
            start_logging().info(describe_grades(arguments.output))
        else:
            questions = read_run_questions(arguments, options)
            asked.answer(questions, arguments.output, arguments.delta, arguments.mastery, arguments.order)


if __name__ == "__main__":
    run(main)
