"""What an engine of generation is asked, and what it tells."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: a row stops after this many tokens, or at an end token, and for no other reason.
        end_ids: end tokens; they are not part of the output.
        temperature: 0 is greedy.
    """

    max_new_tokens: int
    end_ids: frozenset[int]
    temperature: float = 0.0


@dataclass(frozen=True)
class Prompt:
    """A prompt and the streams of random numbers of its samples.

    Attributes:
        ids: token ids, at least one.
        keys: one 64-bit stream key per sample; greedy decoding uses only their number.
        forced: a continuation whose log-probabilities are wanted beside what is generated.
    """

    ids: tuple[int, ...]
    keys: tuple[int, ...] = (0,)
    forced: tuple[int, ...] = ()


@dataclass(frozen=True)
class Read:
    """A prompt that has been read.

    Attributes:
        index: which prompt.
        logits: (V,) of the first new token.
        forced: log-probabilities of the forced continuation, in nats, one per token.
    """

    index: int
    logits: torch.Tensor
    forced: list[float]
