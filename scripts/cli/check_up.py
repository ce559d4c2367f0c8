"""The check-up as scripts/check_up.py does it: both models, one after the other, and their answers side by side."""

import argparse
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import torch
from transformers import PreTrainedTokenizerBase

from cli.engines import open_engine
from knowshift.allowed_values import Bos
from knowshift.configuration.check_up import CheckUp
from knowshift.evaluation.answering import answer_questions
from knowshift.evaluation.check_up import Report, first_lines, pair_answers, split_examples
from knowshift.evaluation.user_questions import as_questions, grade_outcomes, read_question_file
from knowshift.facts.templates import PromptTemplate, read_prompt_template
from knowshift.generation.interface import Decoding
from knowshift.models.adapters import write_in_form_of_base
from knowshift.models.foreign import Checkpoint, check_checkpoint, differing_settings, has_tokenizer, is_adapter
from knowshift.models.loading import end_ids, load_model, load_tokenizer, trust_code_of
from knowshift.models.tokenizing import ChatPrompt, line_break_ids
from knowshift.runtime.device_lease import lease_device
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.progress import progress, start_logging

STUDY = Path(__file__).parents[2] / "resources/prompt.yaml"
CHAT = "chat"


def check_up(arguments: argparse.Namespace, options: CheckUp) -> Report:
    """Ask both models, and report what became of the base's facts.

    Args:
        arguments: the script's; base, tuned, questions, device, threads and gpus are read.
        options: how the models are asked.
    """
    rows = read_question_file(arguments.questions)
    examples, asked = split_examples(rows, options.few_shot, options.seed, arguments.questions)
    if options.trust_remote_code:
        for folder in (arguments.base, arguments.tuned):
            trust_code_of(folder)
    with ExitStack() as stack:
        tuned, tokenizer, notes = _open_tuned(arguments.base, arguments.tuned, stack)
        device = stack.enter_context(lease_device(arguments.device, arguments.threads))
        sides = {
            "base": _Side(arguments.base, arguments.base, options.base_prompt, "base_prompt", examples, options),
            "tuned": _Side(tuned, tokenizer, options.tuned_prompt, "tuned_prompt", [], options),
        }
        answers = [side.answers(name, asked, arguments, device) for name, side in sides.items()]
    column = "whole_words" if options.matching == "whole_words" else "substring"
    paired = pair_answers(asked, answers[0], answers[1], column)
    folders = {"base": arguments.base, "tuned": arguments.tuned}
    return Report(paired, {name: (str(folders[name]), side.words) for name, side in sides.items()}, notes)


def _open_tuned(base: Path, tuned: Path, stack: ExitStack) -> tuple[Path, Path, list[str]]:
    """Find the folder that transformers loads the fine-tuned model from, and that of its tokenizer.

    An adapter, and a checkpoint whose tensors have other names, are written to a temporary folder first.

    Returns:
        The two folders, and sentences about what differs from the base.
    """
    check_checkpoint(base)
    folder, notes = tuned, []
    if is_adapter(tuned):
        start_logging().info("merging the adapter %s", tuned)
        checkpoint = None
        notes.append("The adapter was merged into the base in float32.")
    else:
        checkpoint = Checkpoint(base, tuned)
    if checkpoint is None or not checkpoint.loads_as_it_is:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="knowshift-check-up-")))
        checkpoint = write_in_form_of_base(base, tuned, folder)
    if checkpoint.new_tokens:
        notes.append(f"The fine-tuned model's vocabulary has {checkpoint.new_tokens} rows more than the base's.")
    if differing := differing_settings(base, folder):
        notes.append(f"The fine-tuned model's configuration computes otherwise: {'; '.join(differing)}.")
    if not has_tokenizer(tuned):
        notes.append("The fine-tuned model has no tokenizer of its own; it was asked with the base's.")
    return folder, folder if has_tokenizer(folder) else base, notes


class _Side:
    """One of the two models, and how it is asked.

    Args:
        model: model directory.
        tokenizer: directory of its tokenizer.
        prompt: study, chat, or a file; None takes chat where the tokenizer has a template, else study.
        setting: the name of the option that says so, for messages.
        examples: questions that stand with their answers before each question, except in a chat.
        options: further settings.
    """

    def __init__(
        self,
        model: Path,
        tokenizer: Path,
        prompt: str | None,
        setting: str,
        examples: list[dict[str, Any]],
        options: CheckUp,
    ) -> None:
        self._model, self._options = model, options
        self._tokenizer: PreTrainedTokenizerBase = load_tokenizer(tokenizer)
        if prompt is None:
            prompt = CHAT if self._tokenizer.chat_template else "study"
        self._prompt: ChatPrompt | PromptTemplate
        self._one_line = False
        self._stops: frozenset[int] = frozenset()  # further tokens that end an answer
        if prompt == CHAT:
            if not self._tokenizer.chat_template:
                flag = f"--{setting.replace('_', '-')}"
                raise KnowshiftError(
                    f"the tokenizer in {tokenizer} has no chat template; set {flag} to study or a file"
                )
            self._prompt = ChatPrompt(self._tokenizer, options.request, system=options.system)
            self.words = "its chat template" + (f" and the request {options.request!r}" if options.request else "")
            return
        self.words = "the study prompt" if prompt == "study" else f"the prompt {prompt}"
        template = read_prompt_template(STUDY if prompt == "study" else Path(prompt))
        pairs = [(row["question"], row["answers"][0]) for row in examples]
        self._prompt = template.with_examples(pairs)
        self._one_line = bool(pairs)
        if pairs:
            if not template.reply("").startswith("\n"):  # after an answer stands nothing that counts
                self._stops = line_break_ids(self._tokenizer)
            self.words += f" after {len(pairs)} answered examples"

    def answers(
        self, name: str, rows: list[dict[str, Any]], arguments: argparse.Namespace, device: torch.device
    ) -> pa.Table:
        """Load the model, ask all questions, and return the graded answers in the schema `GRADED_OUTCOMES`."""
        options = self._options
        decoding = Decoding(options.max_new_tokens, end_ids(self._model, self._tokenizer) | self._stops)
        load = partial(load_model, self._model, options.dtype)
        settings = argparse.Namespace(model=self._model, threads=arguments.threads, gpus=1)
        start_logging().info("loading the %s model", name)
        engine = open_engine(settings, options, device, load, as_stored=True)
        bos: Bos = "never" if isinstance(self._prompt, ChatPrompt) else options.bos

        def tick(*_: int) -> None:
            bar.update()

        with progress(what=f"asking the {name} model", unit="questions", total=len(rows)) as bar:
            outcomes = answer_questions(engine, self._tokenizer, as_questions(rows), self._prompt, decoding, tick, bos)
        return grade_outcomes(first_lines(outcomes) if self._one_line else outcomes, rows)
