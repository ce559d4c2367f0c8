"""Asking a model the examples of a task, in chunks, with a model that is loaded when the first chunk needs it."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from knowshift.configuration.tasks import AskedTask
from knowshift.evaluation.schemas import TASK_OUTCOMES
from knowshift.evaluation.tasks import answer_examples
from knowshift.facts.task_examples import read_examples
from knowshift.generation.interface import GenerationEngine
from knowshift.models.loading import end_ids, load_tokenizer
from knowshift.runtime.resumption import write_in_chunks
from knowshift.weights.model_folder import read_config

LIMITS = ("max_position_embeddings", "n_positions")  # keys of config.json: how many tokens a model can read


def answer_task(
    arguments: argparse.Namespace,
    task: AskedTask,
    seed: int,
    questions: Path,
    output: Path,
    engine: Callable[[], GenerationEngine],
    key: Mapping[str, Any],
    about: Mapping[str, Any],
) -> None:
    """Ask a model the examples of a task and write the answers, from where an interrupted job of the same key ended.

    Args:
        arguments: the script's; model, files and chunk are read.
        task: how they are asked.
        seed: the experiment's seed.
        questions: the file of the examples.
        output: table to write.
        engine: returns the engine on the loaded model.
        key: JSON values on which the table depends.
        about: metadata for the table.
    """
    examples = read_examples(questions)
    folder, size = arguments.files or arguments.model, arguments.chunk
    tokenizer: PreTrainedTokenizerBase = load_tokenizer(folder)
    ends, config = end_ids(folder, tokenizer), read_config(folder)
    longest = min((limit for name in LIMITS if isinstance(limit := config.get(name), int)), default=None)

    def make(part: pa.Table, tick: Callable[..., None]) -> pa.Table:
        some = [examples[row] for row in part["row"].to_pylist()]
        return answer_examples(engine(), tokenizer, some, task, seed, ends, longest, tick)

    rows = pa.table({"row": list(range(len(examples)))})
    parts = [rows.slice(start, size) for start in range(0, len(rows), size)]
    write_in_chunks(output, {**key, "chunk": size}, TASK_OUTCOMES, parts, make, "examples", metadata=about)
