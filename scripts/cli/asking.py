"""What the scripts that ask a model questions share: the model, loaded when it is needed, and asking in chunks."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cli.engines import open_engine
from knowshift.allowed_values import Bos, Writing
from knowshift.evaluation.answering import answer_questions, first_lines, leading_logits
from knowshift.evaluation.options import AskingOptions, RunOptions
from knowshift.evaluation.questions import cell_questions
from knowshift.evaluation.schemas import GRADED_OUTCOMES, LEADING_LOGITS, OUTCOMES
from knowshift.evaluation.user_questions import as_questions, grade_outcomes, read_question_file
from knowshift.facts.templates import PromptTemplate, read_prompt_template, read_topic_templates
from knowshift.finetuning.schemas import ORDERS
from knowshift.generation.interface import Decoding, GenerationEngine
from knowshift.mastery.schemas import MASTERY
from knowshift.models.loading import end_ids, load_tokenizer, trust_code_of
from knowshift.models.tokenizing import ChatPrompt
from knowshift.runtime.parquet import read_table
from knowshift.runtime.resumption import input_digests, write_in_chunks


def read_run_questions(arguments: argparse.Namespace, options: RunOptions) -> pa.Table:
    """Read the questions to a fine-tuned model, from its mastery table and its order of training facts."""
    mastery = read_table(arguments.mastery, MASTERY).replace_schema_metadata(None)
    order = read_table(arguments.order, ORDERS, ["fact_id"])["fact_id"].to_pylist() if arguments.order else []
    trained = order[: options.size][: options.training_set]
    return cell_questions(mastery, {**options.per_level}, options.seed, trained)


class AskedModel:
    """A model that is asked questions, loaded with the first one, and not at all if every answer is there already.

    Args:
        arguments: the script's; model, prompt, chunk, code, threads, gpus and, where the script has it, files are read.
        options: how the model is asked.
        load: loads the model to a device.
        device: the device that this process leased.
        as_stored: whether the model is the one in the directory `arguments.model`.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        options: AskingOptions,
        load: Callable[[torch.device], PreTrainedModel],
        device: torch.device,
        as_stored: bool = False,
    ) -> None:
        self._arguments, self._options, self._load = arguments, options, load
        self._device, self._as_stored = device, as_stored
        if options.trust_remote_code:
            for folder in filter(None, (arguments.model, self._files)):
                trust_code_of(folder)

    @cached_property
    def _prompt(self) -> PromptTemplate | ChatPrompt:
        if chat := self._options.chat:
            return ChatPrompt(self._tokenizer, chat.request, chat.date, chat.thinking, chat.template_args, chat.system)
        return read_prompt_template(self._arguments.prompt)

    @property
    def _bos(self) -> Bos:
        """Whether BOS stands before a formatted question; in a chat the template has put it where it belongs."""
        return "never" if self._options.chat else self._options.bos

    @property
    def _files(self) -> Path | None:
        """The folder with tokenizer and configuration of a model that was fine-tuned elsewhere."""
        return getattr(self._arguments, "files", None)

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self._files or self._arguments.model)

    @cached_property
    def _decoding(self) -> Decoding:
        limit = (self._options.chat or self._options).max_new_tokens
        return Decoding(limit, end_ids(self._files or self._arguments.model, self._tokenizer))

    @cached_property
    def engine(self) -> GenerationEngine:
        """The engine on the model, which is loaded with its first use."""
        return open_engine(self._arguments, self._options, self._device, self._load, self._as_stored)

    def _outcomes(self, questions: pa.Table, tick: Callable[..., None]) -> pa.Table:
        model = self.engine, self._tokenizer
        return answer_questions(*model, questions, self._prompt, self._decoding, tick, self._bos)

    def answer(
        self, questions: pa.Table, output: Path, *inputs: Path | None, about: Mapping[str, Any] | None = None
    ) -> None:
        """Ask questions and write the outcomes.

        Args:
            questions: as `answering.answer_questions` takes them.
            output: table to write.
            inputs: files that the questions or the model come from, besides `--model` and `--prompt`.
            about: metadata for the table.
        """
        self._write(questions, output, OUTCOMES, self._outcomes, inputs, about)

    def answer_few_shot(self, questions: pa.Table, examples: pa.Table, output: Path, *inputs: Path) -> None:
        """Ask questions with answered examples before each, and write the outcomes.

        An answer ends at its first line break, where the next example would begin.

        Args:
            questions: as `answering.answer_questions` takes them.
            examples: facts with the columns fact_id, question and object; none: no question is asked.
            output: table to write.
            inputs: files that the questions and examples come from, besides `--model` and `--prompt`.
        """
        pairs = list(zip(*(examples[name].to_pylist() for name in ("question", "object")), strict=True))

        def make(part: pa.Table, tick: Callable[..., None]) -> pa.Table:
            assert isinstance(self._prompt, PromptTemplate)  # a pre-trained model has no chat template
            prompt = self._prompt.with_examples(pairs)
            model = self.engine, self._tokenizer
            return first_lines(answer_questions(*model, part, prompt, self._decoding, tick, self._bos))

        about = {"examples": examples["fact_id"].to_pylist()}
        self._write(questions if pairs else questions.slice(0, 0), output, OUTCOMES, make, inputs, about)

    def answer_file(self, path: Path, output: Path, writings: Sequence[Writing] = ()) -> None:
        """Ask the questions of a user's file and write them with their graded answers.

        Args:
            path: the file of questions.
            output: table to write.
            writings: which ways to write one name count as one.
        """
        rows = read_question_file(path)

        def make(part: pa.Table, tick: Callable[..., None]) -> pa.Table:
            return grade_outcomes(self._outcomes(part, tick), rows, writings)

        self._write(as_questions(rows), output, GRADED_OUTCOMES, make, (path,))

    def write_leading_logits(self, facts: pa.Table, templates: Path, output: Path, *inputs: Path) -> None:
        """Write the first-token logits after completion templates.

        Args:
            facts: as `answering.leading_logits` takes them.
            templates: folder of TOPIC.yaml.
            output: table to write.
            inputs: further files that the facts come from.
        """
        topics = sorted(set(facts["topic"].to_pylist()))
        texts = {topic: read_topic_templates(templates / f"{topic}.yaml").completions for topic in topics}

        def make(part: pa.Table, tick: Callable[..., None]) -> pa.Table:
            return leading_logits(self.engine, self._tokenizer, part, texts, self._decoding, tick, self._options.bos)

        self._write(facts, output, LEADING_LOGITS, make, (*inputs, templates))

    def _write(
        self,
        rows: pa.Table,
        output: Path,
        schema: pa.Schema,
        make: Callable[[pa.Table, Callable[..., None]], pa.Table],
        inputs: tuple[Path | None, ...],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a table from `rows` in chunks, from where an interrupted job of the same inputs ended."""
        size = self._arguments.chunk
        key = {
            "options": self._options.model_dump(),
            "code": self._arguments.code,
            "chunk": size,
            "inputs": input_digests(self._arguments.model, self._arguments.prompt, *inputs, self._files),
        }
        parts = [rows.slice(start, size) for start in range(0, len(rows), size)]
        write_in_chunks(output, key, schema, parts, make, "questions", metadata=about)
