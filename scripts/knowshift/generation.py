"""The generation engine that probing and evaluation share.

Exactness is by construction. Which random number a token gets depends on its row's key and its step alone. The shape of
every forward pass follows from the prompt alone: prompts are padded to a bucket of their length, prompt passes always
have `prompt_rows` rows and decoding passes `rows` rows, empty ones included. A row's numbers do not depend on what its
neighbours hold, so neither order, nor other prompts, nor interruption can change an outcome.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from knowshift.randomness import counter_uniform

PROMPT_BUCKET = 4  # prompts are padded to a multiple of this many tokens
CACHE_BUCKET = 32  # the key-value cache holds a multiple of this many prompt tokens
CANDIDATES = 64  # how many of the highest logits sampling looks at before it sorts them all


@dataclass(frozen=True)
class Prompt:
    """A prompt and the streams of random numbers of its samples.

    Attributes:
        ids: token ids, at least one.
        keys: one 64-bit stream key per sample; greedy decoding uses only their number.
    """

    ids: tuple[int, ...]
    keys: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: a row stops after this many tokens, or at an end token, and for no other reason.
        temperature: 0 is greedy.
        end_ids: end tokens; they are not part of the output.
        rows: rows of a decoding pass.
        prompt_rows: rows of a prompt pass.
    """

    max_new_tokens: int
    end_ids: frozenset[int]
    temperature: float = 0.0
    rows: int = 32
    prompt_rows: int = 8


def pick_tokens(logits: torch.Tensor, temperature: float, uniforms: np.ndarray) -> torch.Tensor:
    """Choose one token per row by inverting the cumulative distribution, tokens ordered by logit, highest first.

    Args:
        logits: (R, V), any float type.
        temperature: 0 takes the highest logit.
        uniforms: (R,) float64 in [0, 1); not looked at when greedy.

    Returns:
        (R,) token ids.
    """
    if temperature == 0:
        return logits.argmax(-1)
    scaled = logits.float() / temperature  # (R, V)
    best, ids = scaled.topk(min(CANDIDATES, scaled.shape[-1]), dim=-1)  # (R, C)
    top = best[:, :1]
    total = torch.exp(scaled - top).sum(-1, dtype=torch.float64)  # (R,)
    target = torch.as_tensor(uniforms, device=logits.device, dtype=torch.float64) * total
    place = (torch.exp(best - top).double().cumsum(-1) <= target[:, None]).sum(-1)  # (R,)
    chosen = ids.gather(1, place.clamp(max=ids.shape[1] - 1)[:, None])[:, 0]
    for row in torch.nonzero(place == ids.shape[1])[:, 0].tolist():  # beyond the candidates: rare
        ordered, order = scaled[row].sort(descending=True, stable=True)
        beyond = (torch.exp(ordered - ordered[0]).double().cumsum(0) <= target[row]).sum()
        chosen[row] = order[beyond.clamp(max=len(order) - 1)]
    return chosen


class _SlotLayer(CacheLayerMixin):
    """Keys and values of one layer for rows that are at different positions."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.positions: torch.Tensor | None = None  # (R,), where each row writes next

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        rows, heads = key_states.shape[:2]
        self.keys = key_states.new_zeros(rows, heads, self.length, key_states.shape[-1])
        self.values = value_states.new_zeros(rows, heads, self.length, value_states.shape[-1])
        self.rows = torch.arange(rows, device=key_states.device)
        self.is_initialized = True

    def update(self, key_states, value_states, *args, **kwargs):
        self.keys[self.rows, :, self.positions] = key_states[:, :, 0]
        self.values[self.rows, :, self.positions] = value_states[:, :, 0]
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.length


@dataclass
class _Ready:
    """A prompt that has been read: its keys and values, its next-token logits, and its samples still to start."""

    index: int
    length: int
    layers: list[tuple[torch.Tensor, torch.Tensor]]  # per layer (H, bucket, D) twice
    logits: torch.Tensor  # (V,)
    samples: deque[int]


class _Slots:
    """The rows of the decoding pass for prompts of one cache bucket."""

    def __init__(self, model: PreTrainedModel, decoding: Decoding, prompt_length: int) -> None:
        rows, device = decoding.rows, model.device
        self.model, self.decoding, self.prompt_length = model, decoding, prompt_length
        self.length = prompt_length + decoding.max_new_tokens - 1
        self.layers = [_SlotLayer(self.length) for _ in range(model.config.get_text_config().num_hidden_layers)]
        self.cache = Cache(layers=self.layers)
        self.columns = torch.arange(self.length, device=device)
        self.owner: list[tuple[int, int] | None] = [None] * rows  # (prompt, sample) of each row
        self.keys = np.zeros(rows, dtype=np.uint64)
        self.first = np.full(rows, prompt_length)  # where a row's prompt starts in the cache
        self.steps = np.zeros(rows, dtype=np.int64)  # tokens generated so far, less the one now fed
        self.tokens = np.zeros(rows, dtype=np.int64)

    def free(self) -> list[int]:
        return [row for row, owner in enumerate(self.owner) if owner is None]

    def start(self, row: int, ready: _Ready, sample: int, key: int, token: int) -> None:
        """Give a row a prompt's cache and its first new token."""
        for layer, (keys, values) in zip(self.layers, ready.layers, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(
                    keys.expand(len(self.owner), *keys.shape), values.expand(len(self.owner), *values.shape)
                )
            start = self.prompt_length - keys.shape[1]
            layer.keys[row, :, start : self.prompt_length] = keys
            layer.values[row, :, start : self.prompt_length] = values
        self.owner[row] = (ready.index, sample)
        self.keys[row], self.first[row] = key, self.prompt_length - ready.length
        self.steps[row], self.tokens[row] = 0, token

    def stop(self, row: int) -> None:
        self.owner[row] = None
        self.first[row], self.steps[row], self.tokens[row] = self.prompt_length, 0, 0

    def step(self) -> np.ndarray:
        """Feed each row its last token; returns the next token of each row."""
        device = self.columns.device
        first, steps = torch.as_tensor(self.first, device=device), torch.as_tensor(self.steps, device=device)
        write = self.prompt_length + steps  # (R,)
        for layer in self.layers:
            layer.positions = write
        mask = (self.columns >= first[:, None]) & (self.columns <= write[:, None])  # (R, L)
        logits = self.model(
            input_ids=torch.as_tensor(self.tokens, device=device)[:, None],
            attention_mask=mask[:, None, None],
            position_ids=(write - first)[:, None],
            cache=self.cache,
            use_cache=True,
        ).logits[:, -1]  # (R, V)
        self.steps += 1
        uniforms = counter_uniform(self.keys, self.steps)
        return pick_tokens(logits, self.decoding.temperature, uniforms).cpu().numpy()


def _read_prompts(
    model: PreTrainedModel, prompts: Sequence[Prompt], block: Sequence[int], bucket: int, rows: int
) -> list[_Ready]:
    """One prompt pass over `rows` rows of `bucket` tokens, padded on the left; short blocks repeat their last prompt."""
    filled = [*block, *[block[-1]] * (rows - len(block))]
    lengths = torch.tensor([len(prompts[index].ids) for index in filled])
    ids = torch.zeros(rows, bucket, dtype=torch.long)
    for row, index in enumerate(filled):
        ids[row, bucket - len(prompts[index].ids) :] = torch.tensor(prompts[index].ids)
    column = torch.arange(bucket)
    real = column >= (bucket - lengths)[:, None]  # (P, bucket)
    # Padding attends to itself alone: a row of the mask with no entry would give NaN, which spreads through the cache.
    mask = (column[None, :, None] >= column[None, None, :]) & real[:, None, :] | torch.eye(bucket, dtype=torch.bool)
    positions = (column - (bucket - lengths)[:, None]).clamp(min=0)
    cache = DynamicCache(config=model.config)
    logits = model(
        input_ids=ids.to(model.device),
        attention_mask=mask[:, None].to(model.device),
        position_ids=positions.to(model.device),
        cache=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]  # (P, V)
    return [
        _Ready(
            index,
            len(prompts[index].ids),
            [(layer.keys[row], layer.values[row]) for layer in cache.layers],
            logits[row],
            deque(range(len(prompts[index].keys))),
        )
        for row, index in enumerate(block)
    ]


def _round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    on_first_logits: Callable[[int, torch.Tensor], None] | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> list[list[list[int]]]:
    """Complete every prompt, once per sample.

    Args:
        model: a causal language model in evaluation mode.
        prompts: N prompts.
        decoding: how tokens are chosen and when a row stops.
        on_first_logits: called once per prompt with its index and the logits (V,) of the first new token.
        on_done: called with (prompt, sample) whenever a row is finished.

    Returns:
        Token ids of new tokens, without the end token, indexed [prompt][sample].
    """
    outputs: list[list[list[int]]] = [[[] for _ in prompt.keys] for prompt in prompts]
    buckets: dict[int, dict[int, deque[int]]] = defaultdict(lambda: defaultdict(deque))
    for index, prompt in enumerate(prompts):
        buckets[_round_up(len(prompt.ids), CACHE_BUCKET)][_round_up(len(prompt.ids), PROMPT_BUCKET)].append(index)

    def accept(index: int, sample: int, token: int) -> bool:
        """Take a new token; whether the row goes on."""
        output = outputs[index][sample]
        if token not in decoding.end_ids:
            output.append(token)
            if len(output) < decoding.max_new_tokens:
                return True
        if on_done:
            on_done(index, sample)
        return False

    for cache_bucket, by_length in sorted(buckets.items()):
        slots = _Slots(model, decoding, cache_bucket)
        waiting = deque(
            (bucket, [queue.popleft() for _ in range(min(decoding.prompt_rows, len(queue)))])
            for bucket, queue in sorted(by_length.items())
            for _ in range(_round_up(len(queue), decoding.prompt_rows) // decoding.prompt_rows)
        )
        ready: deque[_Ready] = deque()
        while True:
            free = slots.free()
            while free and (ready or waiting):
                if not ready:
                    bucket, block = waiting.popleft()
                    ready.extend(_read_prompts(model, prompts, block, bucket, decoding.prompt_rows))
                    if on_first_logits:
                        for item in ready:
                            on_first_logits(item.index, item.logits)
                item = ready[0]
                keys = np.array(prompts[item.index].keys, dtype=np.uint64)
                firsts = pick_tokens(
                    item.logits.expand(len(keys), -1), decoding.temperature, counter_uniform(keys, 0)
                ).tolist()
                while free and item.samples:
                    sample = item.samples.popleft()
                    if accept(item.index, sample, firsts[sample]):
                        slots.start(free.pop(0), item, sample, prompts[item.index].keys[sample], firsts[sample])
                if not item.samples:
                    ready.popleft()
            if len(slots.free()) == decoding.rows:
                break
            tokens = slots.step()
            for row, owner in enumerate(slots.owner):
                if owner is None:
                    continue
                slots.tokens[row] = tokens[row]
                if not accept(*owner, int(tokens[row])):
                    slots.stop(row)
    return outputs
