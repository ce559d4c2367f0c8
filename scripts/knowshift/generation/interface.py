"""What a generation engine is asked to do and what it reports: the interface of the torch engine and of vLLM."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from knowshift.runtime.errors import KnowshiftError

LONGEST_SHOWN = 200  # characters of a prompt in a message


@dataclass(frozen=True)
class Decoding:
    """Settings of how the tokens of a completion are chosen.

    Attributes:
        max_new_tokens: a completion stops after this many tokens, or at an end token, and for no other reason.
        end_ids: ids of the tokens that end a completion; they are not part of the output.
        temperature: divisor of the logits before the softmax; 0 is greedy decoding.
    """

    max_new_tokens: int
    end_ids: frozenset[int]
    temperature: float = 0.0


@dataclass(frozen=True)
class Prompt:
    """A prompt, and the random number streams of the completions that are sampled from it.

    Attributes:
        ids: token ids, at least one.
        keys: 64-bit stream keys, one per sample; greedy decoding uses only their number.
        forced: token ids of a given continuation, whose log-probabilities are computed besides what is generated.
        text: what a message calls the prompt; "" if it has only its ids.
    """

    ids: tuple[int, ...]
    keys: tuple[int, ...] = (0,)
    forced: tuple[int, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class PromptResult:
    """What an engine computes of a prompt before it generates anything.

    Attributes:
        index: index of the prompt in the sequence of prompts.
        logits: (V,) logits of the first new token, in the model's dtype; vLLM gives log-probabilities in float32.
        forced: log-probabilities in nats of the tokens of `Prompt.forced`, one per token.
    """

    index: int
    logits: torch.Tensor
    forced: list[float]


def check_logits(logits: torch.Tensor, prompt_of: Callable[[int], Prompt], dtype: torch.dtype) -> None:
    """Check that logits are finite; -inf is allowed, for tokens that a model rules out.

    Args:
        logits: (W, V) logits or log-probabilities.
        prompt_of: returns the prompt of a row.
        dtype: the type that the model computes in.

    Raises:
        KnowshiftError: a row holds a value that is no number, is infinite, or rules out every token.
    """
    finite = logits.amax(-1).isfinite()  # the highest is NaN where any is
    if finite.all():
        return
    prompt = prompt_of(int((~finite).nonzero()[0, 0]))
    name = str(dtype).removeprefix("torch.")
    remedy = {
        "float16": "float16 overflows in this model: set dtype: bfloat16 or float32",
        "bfloat16": "set dtype: float32",
    }.get(name, "the model's weights are damaged, or hold values that are not finite: fetch the model again")
    raise KnowshiftError(f"the model's logits in {name} are not finite after the prompt {shown(prompt)}; {remedy}")


def check_lengths(prompts: Sequence[Prompt], max_new_tokens: int, positions: int | None) -> None:
    """Check that a model has positions for all prompts and for what follows them.

    Args:
        prompts: the prompts.
        max_new_tokens: how many tokens may follow.
        positions: the positions that the model has learned; None where they have no end.

    Raises:
        KnowshiftError: names the first prompt that is too long.
    """
    for prompt in prompts if positions is not None else ():
        after = max(max_new_tokens, len(prompt.forced))
        if len(prompt.ids) + after > (positions or 0):
            raise KnowshiftError(
                f"the prompt {shown(prompt)} has {len(prompt.ids):,} tokens, and {after:,} may follow, but this model"
                f" has learned {positions:,} positions; shorten the text (few_shot examples count too), or lower"
                " max_new_tokens"
            )


def shown(prompt: Prompt) -> str:
    """Return what a message calls a prompt: its text, cut if it is long, or its token ids."""
    text = repr(prompt.text) if prompt.text else f"of the token ids {[*prompt.ids]}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 4]} ...{text[-1]}"


class GenerationEngine(Protocol):
    """A loaded model that completes prompts.

    Attributes:
        positions: how many positions the model has learned; None where they have no end, or the engine sees to it.
    """

    positions: int | None

    def generate(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        on_prompt: Callable[[PromptResult], None] | None = None,
        on_done: Callable[[int, int], None] | None = None,
        top_logits: int | None = None,
        on_scores: Callable[[int, int, list[float]], None] | None = None,
    ) -> list[list[list[int]]]:
        """Complete every prompt, once per sample.

        Args:
            prompts: N prompts.
            decoding: how tokens are chosen and when a completion stops.
            on_prompt: called once per prompt with what was computed of it.
            on_done: called with (index of the prompt, number of the sample) whenever a completion is finished.
            top_logits: how many of the highest first-token logits `on_prompt` needs; None means all. An engine may give
                more; what it leaves out is -inf.
            on_scores: called with (index of the prompt, number of the sample, log-probabilities) whenever a completion
                is finished. The log-probabilities, in nats and at temperature 1, are those of the chosen tokens, the
                end token included if one was chosen.

        Returns:
            Ids of the new tokens without the end token, indexed by prompt and sample.
        """
        ...
