"""Tries a model once, when it is taken over, so that no later stage fails at what could have been known before.

What is found out goes into the manifest of the model: later stages read there which engines run it and whether training
may pack examples. All of it is a check: nothing here changes a file of the model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cli.expectations import Expected
from knowshift.configuration.finetuning import LoraSettings
from knowshift.facts.templates import read_prompt_template
from knowshift.finetuning.loop import Example, can_pack
from knowshift.finetuning.lora import add_adapters
from knowshift.generation.generate_engine import GenerateEngine
from knowshift.generation.interface import Decoding, Prompt, check_logits
from knowshift.generation.torch_engine import Engine
from knowshift.models.loading import DTYPES, end_ids, load_model, load_tokenizer, use_attention
from knowshift.models.tokenizing import ChatPrompt, encode_examples, starts_with_bos
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.memory import available_memory
from knowshift.runtime.progress import start_logging
from knowshift.runtime.scarcity import lack_of
from knowshift.weights.model_folder import read_config
from knowshift.weights.parameter_counts import stored_parameters
from knowshift.weights.positions import learned_positions
from knowshift.weights.regions import names_in_region
from knowshift.weights.safetensors_files import WeightFiles
from knowshift.weights.tied import model_without_memory

# Questions as they are asked, of several lengths.
TRIED = (
    ("Which planet does the moon Io orbit?", "Jupiter"),
    ("Who composed the opera Aida?", "Giuseppe Verdi"),
    ("Where?", "Rome"),
    ("What is the capital of the country that lies between France and Portugal?", "Madrid"),
)
SHORT = 8  # tokens of the pass that is tried
COPIES = 2.2  # of the weights that a trial holds: loaded, laid out for the torch engine, and some more
UNREAD = ("pad_token", "mask_token", "cls_token", "sep_token")  # control tokens that no text holds
OTHER_SENSES = ("image", "audio", "video", "vision", "speech")  # as names of tokens that stand for no text


def admit(directory: Path, expected: Expected, prompt: Path) -> dict[str, Any]:
    """Try a model: its tokenizer, one short pass, its engines, and all that an experiment will ask of it.

    Args:
        directory: model directory, whose files and tensors are checked already.
        expected: what the experiment will ask of it.
        prompt: the prompt template of training and evaluation (YAML).

    Returns:
        What was found out, for the manifest: type, eos, bos (whether the tokenizer puts BOS before a text), and where
        there was memory to try the model: attention, tied (names of parameters that are one), positions (how many it
        has learned, or null), packs (whether it keeps packed examples apart) and engines (that run it).

    Raises:
        KnowshiftError: says in one line what is wrong with the model or does not fit it, and what to do.
    """
    words = load_tokenizer(directory)
    check_end(directory, words)
    template = read_prompt_template(prompt)
    asked = [template.ask(question) for question, _ in TRIED]
    examples = encode_examples(words, asked, [template.reply(answer) for _, answer in TRIED], expected.bos)
    if chat := expected.chat:
        ChatPrompt(words, chat.request, chat.date, chat.thinking, chat.template_args).ask(TRIED[0][0])
    weights = WeightFiles(directory)
    for region in expected.regions:
        names_in_region([name for name in weights.names() if name not in weights.no_parameters], region)
    for lora in expected.adapters:
        check_adapters(directory, lora)
    found = {
        "type": read_config(directory).get("model_type"),
        "eos": words.eos_token_id,
        "bos": starts_with_bos(words),
    }
    return found | try_model(directory, weights, words, examples, expected)


def check_end(directory: Path, words: PreTrainedTokenizerBase) -> None:
    """Check that a tokenizer has a token that ends a text, which training puts after every answer.

    Raises:
        KnowshiftError: it has none.
    """
    if words.eos_token_id is None:
        raise KnowshiftError(
            f"the tokenizer of {directory} has no EOS token, which training puts after every answer; name one of its"
            " tokens as eos_token in tokenizer_config.json"
        )


def check_vocabulary(directory: Path, words: PreTrainedTokenizerBase, rows: int) -> None:
    """Check that the embedding of a model has a row for every token that a text may hold.

    Tokens that pad or stand for pictures and sounds do not count: some models have no rows for these.

    Raises:
        KnowshiftError: names a token without a row, and both numbers.
    """
    unread = {getattr(words, name, None) for name in UNREAD}
    beyond = {
        index: token
        for token, index in words.get_vocab().items()
        if index >= rows and token not in unread and not any(sense in token.lower() for sense in OTHER_SENSES)
    }
    if beyond:
        highest = max(beyond)
        raise KnowshiftError(
            f"the tokenizer of {directory} has the token {beyond[highest]!r} with the id {highest:,}, but the model's"
            f" embedding has {rows:,} rows: tokens were added and the embedding was not resized; resize it"
            " (resize_token_embeddings) and save the model anew, or bring the model's own tokenizer"
        )


def check_adapters(directory: Path, lora: LoraSettings) -> None:
    """Check that adapters fit a model, on the model without memory for weights; one with code of its own is not made.

    Raises:
        KnowshiftError: as `add_adapters`.
    """
    model = model_without_memory(directory)
    if model is not None:
        add_adapters(model, lora)


def try_model(
    directory: Path,
    weights: WeightFiles,
    words: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    expected: Expected,
) -> dict[str, Any]:
    """Load a model and let it read, generate and pack; nothing is tried where there is no memory for it.

    Returns:
        attention, tied, positions, packs and engines, see `admit`; empty if there is no memory.

    Raises:
        KnowshiftError: logits are not finite, or an engine that will be used cannot run the model.
    """
    stored = [weights.tensors[name].dtype for name in weights.names() if name not in weights.no_parameters]
    most = max(sorted(set(stored)), key=stored.count)
    dtypes = expected.dtypes or [most if most in DTYPES else "float32"]
    needed = COPIES * (stored_parameters(directory) or 0) * max(DTYPES[dtype].itemsize for dtype in dtypes)
    free = available_memory()
    if free is not None and needed > free:
        start_logging().info(
            "the model is not tried here: that takes %.0f GB of memory, and %.0f GB are free; the first job that"
            " asks it will try it",
            needed / 1e9,
            free / 1e9,
        )
        return {}
    ids, start = examples[0]
    prompt = Prompt(tuple(ids[:start][:SHORT]), text=TRIED[0][0])
    found: dict[str, Any] = {}
    for dtype in dtypes:
        model = load_model(directory, dtype)
        check_vocabulary(directory, words, cast(torch.Tensor, model.get_input_embeddings().weight).shape[0])
        use_attention(model, expected.attention)
        check_pass(model, prompt, widen=not expected.dtypes)
        if not found:
            positions = learned_positions(model)
            attention = model.config._attn_implementation
            found = {"attention": attention, "positions": positions, "tied": tied_parameters(model)}
            if positions is None or max(len(ids) for ids, _ in examples) <= positions:
                found["packs"] = can_pack(model, examples, "answer")
            found["engines"] = running_engines(model, prompt, Decoding(2, end_ids(directory, words)))
        del model
    if lacking := [engine for engine in expected.engines if engine not in ("vllm", *found["engines"])]:
        other = " or ".join(found["engines"]) or "vllm"
        raise KnowshiftError(f"engine: {lacking[0]} cannot run {directory}; set engine: {other}")
    return found


def tied_parameters(model: PreTrainedModel) -> list[list[str]]:
    """List the names of each parameter that has several, such as an output head that is tied to the embedding."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def check_pass(model: PreTrainedModel, prompt: Prompt, widen: bool) -> None:
    """Check that the logits of a short pass are finite.

    Args:
        model: the model, which computes in its own type.
        prompt: what it reads.
        widen: whether float32 will do where the type of the files overflows, as nothing else was asked for.

    Raises:
        KnowshiftError: they are not.
    """
    ids = torch.tensor([prompt.ids], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[0]
    try:
        check_logits(logits, lambda _: prompt, model.dtype)
    except KnowshiftError as error:
        if not widen or model.dtype == torch.float32:
            raise
        check_pass(model.float(), prompt, widen=False)
        start_logging().warning("%s", error)


def running_engines(model: PreTrainedModel, prompt: Prompt, decoding: Decoding) -> list[str]:
    """List the engines that run a model, the slower first; the last one takes the model over."""
    engines = []
    for name, make in (("generate", GenerateEngine), ("torch", Engine)):
        try:
            make(model).generate([prompt], decoding)
            engines.append(name)
        except Exception as error:  # whatever an architecture raises that an engine is not made for
            if lack_of(error):
                raise
    return engines
