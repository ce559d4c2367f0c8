"""Reading prompts: forward passes of a fixed number of rows, whose shape follows from each prompt alone."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from transformers import DynamicCache, PreTrainedModel

BUCKET = 4  # shared tokens, and a prompt's own, are padded to a multiple of this many
KEPT_BUCKET = 2  # and so are the forced ones whose logits are kept

KeysAndValues = list[tuple[torch.Tensor, torch.Tensor]]  # per layer, (H, T, D) each


@dataclass(frozen=True)
class Prompt:
    """A prompt and the streams of random numbers of its samples.

    Attributes:
        ids: token ids, at least one.
        keys: one 64-bit stream key per sample; greedy decoding uses only their number.
        forced: a continuation whose log-probabilities are wanted beside what is generated.
        shared: how many of its first tokens, fewer than all, other prompts share: they are read once for all of them.
    """

    ids: tuple[int, ...]
    keys: tuple[int, ...] = (0,)
    forced: tuple[int, ...] = ()
    shared: int = 0


@dataclass
class Read:
    """A prompt that has been read.

    Attributes:
        index: which prompt.
        logits: (V,) of the first new token.
        forced: log-probabilities of the forced continuation, in nats, one per token.
        likeliest: the likeliest token after the prompt, and after each forced token.
        layers: keys and values of the prompt and the forced tokens.
        samples: samples that are still to be started.
    """

    index: int
    logits: torch.Tensor
    forced: list[float]
    likeliest: list[int] = field(default_factory=list)
    layers: KeysAndValues = field(default_factory=list)
    samples: deque[int] = field(default_factory=deque)


class Shape(NamedTuple):
    """Columns of a prompt pass: of shared tokens, of own and forced ones, and how many of the last give logits."""

    shared: int
    own: int
    kept: int


def shape_of(prompt: Prompt) -> Shape:
    """The shape of the pass that reads a prompt."""
    own = len(prompt.ids) - prompt.shared + len(prompt.forced)
    return Shape(round_up(prompt.shared, BUCKET), round_up(own, BUCKET), round_up(len(prompt.forced), KEPT_BUCKET) + 1)


class PromptPasses:
    """Reads prompts with a model, from several threads.

    Args:
        rows: of a pass; short blocks are filled up.
        lock: held while shared tokens are read and while `on_read` is called.
        on_read: called once per prompt.
    """

    def __init__(
        self, model: PreTrainedModel, rows: int, lock: threading.Lock, on_read: Callable[[Read], None] | None
    ) -> None:
        self.model, self.rows, self.lock, self.on_read = model, rows, lock, on_read
        self.starts: dict[tuple[int, ...], KeysAndValues] = {}  # of shared tokens

    def read(self, prompts: Sequence[Prompt], block: Sequence[int]) -> list[Read]:
        """Read a block of prompts of one shape, at most as many as there are rows.

        All tokens of a row stand at the end of their columns: shared ones first, then its own and what it is forced to.
        """
        filled = [prompts[index] for index in [*block, *[block[-1]] * (self.rows - len(block))]]
        shape, device = shape_of(filled[0]), self.model.device
        own = [[*prompt.ids[prompt.shared :], *prompt.forced] for prompt in filled]
        starts = torch.tensor([shape.own - len(tokens) for tokens in own])
        ids = torch.zeros(self.rows, shape.own, dtype=torch.long)
        for row, tokens in enumerate(own):
            ids[row, starts[row] :] = torch.tensor(tokens)
        column = torch.arange(shape.own)
        # Padding attends to itself alone: a row of the mask with no entry would give NaN, which spreads through the cache.
        seen = (column[:, None] >= column) & (column >= starts[:, None])[:, None] | torch.eye(
            shape.own, dtype=torch.bool
        )
        shared = torch.tensor([prompt.shared for prompt in filled])
        before = torch.arange(shape.shared) >= shape.shared - shared[:, None]  # (P, S)
        seen = torch.cat([before[:, None].expand(-1, shape.own, -1), seen], -1)
        cache = DynamicCache(config=self.model.config)
        if shape.shared:
            begun = [self._start(prompt.ids[: prompt.shared]) for prompt in filled]
            for number, layer in enumerate(zip(*begun, strict=True)):
                cache.update(*(_at_end(parts, shape.shared) for parts in zip(*layer, strict=True)), number)
        logits = self.model(
            input_ids=ids.to(device),
            attention_mask=additive(seen, self.model.dtype)[:, None].to(device),
            position_ids=(shared[:, None] + (column - starts[:, None]).clamp(min=0)).to(device),
            cache=cache,
            use_cache=True,
            logits_to_keep=shape.kept,
        ).logits  # (P, kept, V)
        read = []
        for row, index in enumerate(block):
            prompt = prompts[index]
            wanted = list(prompt.forced)
            after = logits[row, -1 - len(wanted) :]  # of the prompt, and of each forced token
            scores = after[:-1].float().log_softmax(-1)
            told = scores[range(len(wanted)), wanted].tolist() if wanted else []
            first = shape.shared - prompt.shared
            columns = [*range(first, shape.shared), *range(shape.shared + int(starts[row]), sum(shape[:2]))]
            layers = [(layer.keys[row][:, columns], layer.values[row][:, columns]) for layer in cache.layers]
            samples = deque(range(len(prompt.keys)))
            read.append(Read(index, after[0], told, after.argmax(-1).tolist(), layers, samples))
        if self.on_read:
            with self.lock:
                for item in read:
                    self.on_read(item)
        return read

    def _start(self, shared: tuple[int, ...]) -> KeysAndValues:
        """Keys and values of tokens that prompts share, from a pass of one row."""
        with self.lock:
            if shared not in self.starts:
                cache, column = (
                    DynamicCache(config=self.model.config),
                    torch.arange(len(shared), device=self.model.device),
                )
                self.model(
                    input_ids=torch.tensor([shared], device=self.model.device),
                    attention_mask=additive(column[:, None] >= column, self.model.dtype)[None, None],
                    position_ids=column[None],
                    cache=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                self.starts[shared] = [(layer.keys[0], layer.values[0]) for layer in cache.layers]
        return self.starts[shared]


def _at_end(parts: Sequence[torch.Tensor], columns: int) -> torch.Tensor:
    """(P, H, columns, D) from P tensors (H, T, D), each at the end of its columns."""
    heads, _, width = parts[0].shape
    whole = parts[0].new_zeros(len(parts), heads, columns, width)
    for row, part in enumerate(parts):
        whole[row, :, columns - part.shape[1] :] = part
    return whole


def additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask to add to scores: 0 where seen, else the lowest number."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)


def round_up(length: int, multiple: int) -> int:
    """The next multiple."""
    return -(-length // multiple) * multiple
