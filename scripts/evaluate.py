"""Ask a fine-tuned model the held-out questions and some of its own training set, or any model any questions.

    python scripts/evaluate.py --model base/ --delta delta/ --mastery mastery.parquet --order order.parquet \
        --prompt resources/prompt.yaml --output outcomes.parquet
    python scripts/evaluate.py --model DIR --questions FILE.jsonl --output answers.parquet

In the first form answers are stored ungraded; without --delta the model is scored as it is. In the second, each line of FILE is
{"question": …, "answers": […]}, and the answers are graded; other keys are ignored. An interrupted job goes on where it ended.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from cli.asking import CHUNK, Asked, AskingRun, run_questions
from cli.command_line import CommandLine, run

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from transformers import PreTrainedModel

from knowshift.evaluation.answering import answer_questions
from knowshift.evaluation.grading import grade_output
from knowshift.evaluation.schemas import OUTCOMES
from knowshift.models.loading import check_model, load_model
from knowshift.models.tuned import load_tuned
from knowshift.runtime.device_lease import lease_device
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.progress import start_logging

PROMPT = Path(__file__).parents[1] / "resources/prompt.yaml"


def read_questions(path: Path) -> list[dict]:
    """Questions with their answers, a JSON object per line.

    Raises:
        KnowshiftError: names the first line that is none.
    """
    rows = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise KnowshiftError(f"{path} does not exist; it should hold the questions") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            answers = row["answers"]
            whole = isinstance(row["question"], str) and isinstance(answers, list) and answers
            whole = whole and all(isinstance(answer, str) and answer.strip() for answer in answers)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise KnowshiftError(f'{path}, line {number}: must be {{"question": "…", "answers": ["…"]}} with an answer')
        rows.append(row)
    if not rows:
        raise KnowshiftError(f"{path} is empty; it should hold the questions")
    return rows


def answer_file(asked: Asked, arguments: argparse.Namespace) -> None:
    """Ask the questions of a file, and write them with their graded answers."""
    rows = read_questions(arguments.questions)
    questions = pa.table(
        {
            "fact_id": [str(number) for number in range(len(rows))],
            "set": ["questions"] * len(rows),
            "question": [row["question"] for row in rows],
            "object": [row["answers"][0] for row in rows],
        }
    )
    graded = [*OUTCOMES.names, "question", "answers", "whole_words", "substring", "exact"]
    bools = [pa.field(name, pa.bool_(), False) for name in graded[-3:]]
    schema = pa.schema(
        [*OUTCOMES, pa.field("question", pa.string()), pa.field("answers", pa.list_(pa.string())), *bools]
    )

    def make(part: pa.Table, tick: Callable[..., None]) -> pa.Table:
        table = answer_questions(asked.engine, asked.tokenizer, part, asked.prompt, asked.decoding, tick)
        table = table.to_pylist()
        for row in table:
            source = rows[int(row["fact_id"])]
            row |= {name: source[name] for name in ("question", "answers")}
            row |= grade_output(row["output"], source["answers"])
        return pa.Table.from_pylist(table, schema=schema)

    asked.write(questions, arguments.output, schema, make, (arguments.questions,))
    table = pq.read_table(arguments.output, columns=graded[-3:])
    shares = ", ".join(f"{name} {100 * pc.mean(table[name]).as_py():.1f} %" for name in table.column_names)
    start_logging().info("%d questions, answered right: %s", len(table), shares)


def main() -> None:
    parser = CommandLine(__doc__, AskingRun)
    parser.path("--model", "model directory (the base)")
    parser.path("--delta", "delta directory", required=False)
    parser.path("--mastery", "mastery table", required=False)
    parser.path("--order", "order of training facts", required=False)
    parser.path("--questions", "questions with their answers (JSON lines), instead of --mastery", required=False)
    parser.path("--prompt", f"prompt template (default: {PROMPT.name} of this project)", default=PROMPT)
    parser.path("--output", "table of answers to write (Parquet)")
    parser.execution(chunk=CHUNK, unit="questions")
    arguments, options = parser.read()
    if (arguments.mastery is None) == (arguments.questions is None):
        parser.error("give either --mastery or --questions")

    check_model(arguments.model)
    with lease_device(arguments.device, arguments.threads) as device:

        def load(place: torch.device) -> PreTrainedModel:
            if arguments.delta:
                return load_tuned(arguments.model, arguments.delta, options.dtype, place, arguments.threads or 1)
            return load_model(arguments.model, options.dtype, place)

        asked = Asked(arguments, options, load, device, as_it_is=arguments.delta is None)
        if arguments.questions:
            answer_file(asked, arguments)
        else:
            questions = run_questions(arguments, options)
            asked.answer(questions, arguments.output, arguments.delta, arguments.mastery, arguments.order)


if __name__ == "__main__":
    run(main)
