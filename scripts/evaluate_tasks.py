r"""Ask a model the held-out examples of a task, before fine-tuning or after.

    python scripts/evaluate_tasks.py --model base/ --delta delta/ --questions task.jsonl --metric contains \
        --output task.parquet

Each line of the file is {"prompt": …, "expected": …} or {"messages": […], "expected": …}. Without --delta the model in
--model is asked as it is. Restored models are asked by evaluate_restored.py. An interrupted job goes on where it ended.
"""

from functools import cache, partial
from typing import TYPE_CHECKING

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.generating import Generating
from knowshift.configuration.section import Seeded
from knowshift.configuration.tasks import AskedTask
from knowshift.evaluation.options import QUESTIONS_PER_CHUNK

if TYPE_CHECKING:
    from knowshift.generation.interface import GenerationEngine


class Options(AskedTask, Generating, Seeded):
    """How the model computes, and how it is asked the task."""


def main() -> None:
    """Read the command line, ask, and write the table."""
    parser = CommandLine(__doc__, Options)
    parser.folder("--model", "Model directory (the base).")
    parser.folder("--delta", "Delta directory of the fine-tuned model.", required=False, bare=True)
    parser.files_of_tuned()
    parser.file("--questions", "Examples of the task (JSON lines).")
    parser.new_file("--output", "Table of answers to write (Parquet).")
    parser.execution(QUESTIONS_PER_CHUNK)
    arguments, options = parser.read()
    with quick_imports():
        from cli.asking_tasks import answer_task
        from cli.engines import open_engine
        from knowshift.models.loading import check_model, load_model, trust_code_of
        from knowshift.models.tuned import load_tuned
        from knowshift.runtime.device_lease import lease_device
        from knowshift.runtime.resumption import input_digests

    model, delta, files = arguments.model, arguments.delta, arguments.files
    if delta:
        load = partial(load_tuned, model, delta, options.dtype, threads=arguments.threads or 1, settings=files)
    else:
        load = partial(load_model, model, options.dtype)
    check_model(model)
    if options.trust_remote_code:
        for folder in filter(None, (model, files)):
            trust_code_of(folder)
    inputs = input_digests(model, delta, files, arguments.questions)
    key = {"options": options.model_dump(), "code": arguments.code, "inputs": inputs}
    place, about = (arguments.questions, arguments.output), {"task": options.name}
    with lease_device(arguments.device, arguments.threads) as device:

        @cache
        def engine() -> "GenerationEngine":
            return open_engine(arguments, options, device, load, as_stored=delta is None)

        answer_task(arguments, options, options.seed, *place, engine, key, about)


if __name__ == "__main__":
    run(main)
