"""What the scripts that ask a model questions share: their options, and asking in chunks that survive interruption."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.command_line import option
from cli.engines import open_engine

import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from knowshift.allowed_values import Dtype, EngineName
from knowshift.evaluation.answering import answer_questions
from knowshift.evaluation.questions import cell_questions
from knowshift.evaluation.schemas import OUTCOMES
from knowshift.facts.templates import PromptTemplate, read_prompt_template
from knowshift.finetuning.schemas import ORDERS
from knowshift.generation.interface import Decoding
from knowshift.generation.torch_engine import Engine
from knowshift.mastery.schemas import MASTERY
from knowshift.models.loading import end_ids, load_tokenizer
from knowshift.models.tokenizing import ChatPrompt
from knowshift.runtime.parquet import read_table
from knowshift.runtime.resumption import input_digests, write_in_chunks

if TYPE_CHECKING:
    from knowshift.generation.vllm_engine import VllmEngine

CHUNK = 2048  # questions


@dataclass(frozen=True, kw_only=True)
class Asking:
    """Options of all scripts that ask questions."""

    per_level: dict = option("questions per mastery level of each set, as JSON; null takes all", {})
    seed: int = option("the experiment's seed", 1)
    max_new_tokens: int = option("token limit of an answer", 16)
    dtype: Dtype = option("type to compute in", "float32")
    rows: int = option("tokens of a forward pass; changes low bits", 64)
    engine: EngineName = option("vllm is for GPUs; it draws and rounds its own way", "torch")
    chat: bool = option("ask by the model's own chat template instead of the prompt, true or false", False)


@dataclass(frozen=True, kw_only=True)
class AskingRun(Asking):
    """Options of the scripts that ask a fine-tuned model, some of its own training set too."""

    training_set: int | None = option("questions from the training set, from the first; null takes all", 0)
    size: int | None = option("size of the training set; null: all of the order", None)


def run_questions(arguments: argparse.Namespace, options: AskingRun) -> pa.Table:
    """The questions to a fine-tuned model, by its mastery table and its order of training facts."""
    mastery = read_table(arguments.mastery, MASTERY).replace_schema_metadata(None)
    order = read_table(arguments.order, ORDERS, ["fact_id"])["fact_id"].to_pylist() if arguments.order else []
    trained = order[: options.size][: options.training_set]
    return cell_questions(mastery, options.per_level, options.seed, trained)


class Asked:
    """A model that is loaded when the first question is put, and not at all where every answer is there already."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        options: Asking,
        load: Callable[[torch.device], PreTrainedModel],
        device: torch.device,
        as_it_is: bool = False,
    ) -> None:
        """Args: load gives the model on a device; as_it_is says that it is the one in the directory --model."""
        self.arguments, self.options, self._load = arguments, options, load
        self._device, self._as_it_is = device, as_it_is

    @cached_property
    def prompt(self) -> PromptTemplate | ChatPrompt:
        return ChatPrompt(self.tokenizer) if self.options.chat else read_prompt_template(self.arguments.prompt)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.arguments.model)

    @cached_property
    def decoding(self) -> Decoding:
        return Decoding(self.options.max_new_tokens, end_ids(self.arguments.model, self.tokenizer))

    @cached_property
    def engine(self) -> "Engine | VllmEngine":
        return open_engine(self.arguments, self.options, self._device, self._load, self._as_it_is)

    def answer(
        self, questions: pa.Table, output: Path, *inputs: Path | None, about: Mapping[str, Any] | None = None
    ) -> None:
        """Ask `questions` and write the outcomes, from where an interrupted run of the same inputs ended."""

        def make(part: pa.Table, tick: Callable[..., None]) -> pa.Table:
            return answer_questions(self.engine, self.tokenizer, part, self.prompt, self.decoding, tick)

        self.write(questions, output, OUTCOMES, make, inputs, about)

    def write(
        self,
        rows: pa.Table,
        output: Path,
        schema: pa.Schema,
        make: Callable[[pa.Table, Callable[..., None]], pa.Table],
        inputs: tuple[Path | None, ...],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a table from `rows` in chunks."""
        size = self.arguments.chunk
        key = {"options": asdict(self.options), "code": self.arguments.code, "chunk": size,
               "inputs": input_digests(self.arguments.model, self.arguments.prompt, *inputs)}  # fmt: skip
        parts = [rows.slice(start, size) for start in range(0, len(rows), size)]
        write_in_chunks(output, key, schema, parts, make, "questions", metadata=about)
