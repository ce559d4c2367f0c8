r"""Ask a base model and a model fine-tuned from it the same questions, and say what was kept, lost and learned.

    python scripts/check_up.py --base DIR --tuned DIR --questions FILE.jsonl
    python scripts/check_up.py --base DIR --tuned ADAPTER --questions FILE.jsonl --output answers.parquet

--tuned is a folder with a whole checkpoint in safetensors, or a PEFT adapter, which is merged into a temporary folder
(TMPDIR says where); neither is changed. Each line of FILE is {"question": …, "answers": […]}; a key "topic" groups
questions, and other keys are ignored. docs/check-up.md says how to read the result.
"""

import json

from cli.command_line import CommandLine, quick_imports, run
from cli.execution import Placement
from knowshift.configuration.check_up import CheckUp


def main() -> None:
    """Read the command line, ask both models, print the result, and write the answers."""
    parser = CommandLine(__doc__, CheckUp)
    parser.folder("--base", "Model directory before fine-tuning.")
    parser.folder("--tuned", "Folder of the fine-tuned model, or of an adapter (with adapter_config.json).")
    parser.file("--questions", "Questions with their answers (JSON lines).")
    parser.new_file(
        "--output", "File to write with every answer: .parquet, or .json with the result too.", required=False
    )
    parser.plain(Placement)
    arguments, options = parser.read()
    if arguments.output and arguments.output.suffix not in (".json", ".parquet"):
        parser.error(f"--output must end in .json or .parquet, not {arguments.output.name}")
    with quick_imports():
        from cli.check_up import check_up
        from knowshift.evaluation.schemas import CHECK_UP
        from knowshift.runtime.artefacts import write_text
        from knowshift.runtime.parquet import write_table

    report = check_up(arguments, options)
    print(report.text(), end="")
    if arguments.output and arguments.output.suffix == ".json":
        write_text(arguments.output, json.dumps(report.as_dict(), indent=1, ensure_ascii=False) + "\n")
    elif arguments.output:
        about = {key: value for key, value in report.as_dict().items() if key != "answers"}
        write_table(arguments.output, report.answers, CHECK_UP, about)


if __name__ == "__main__":
    run(main)
