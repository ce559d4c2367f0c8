"""A key-value cache of slots, and forward passes of a fixed number of tokens that stand anywhere in it.

Every token of a pass is a row of its own, which attends to the columns of its slot up to its own. A token's numbers depend
on what its slot holds and on the shape of the pass, not on which tokens are read with it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from knowshift.runtime.errors import KnowshiftError

ATTENTION = "knowshift"  # the name under which transformers finds `slot_attention`


class Token(NamedTuple):
    """A token that a pass reads."""

    id: int
    slot: int
    column: int


class Slots:
    """Slots of a cache, and passes of as many tokens.

    Args:
        model: whose output layer works in blocks.
        rows: of a pass, and slots.
        length: columns of a slot.
    """

    def __init__(self, model: PreTrainedModel, rows: int, length: int) -> None:
        self.model, self.rows, self.block = model, rows, model.get_output_embeddings().rows
        layers = model.config.get_text_config().num_hidden_layers
        self.layers = [_SlotLayer(rows + 1, length) for _ in range(layers)]  # empty rows write to the last slot
        self.cache = Cache(layers=self.layers)
        self.columns = torch.arange(length, device=model.device)

    def read(self, tokens: Sequence[Token], wanted: Sequence[int]) -> torch.Tensor:
        """Read at most as many tokens as there are rows.

        Args:
            tokens: keys and values of the columns before each are in its slot, or among the tokens before it.
            wanted: which of them are to give logits.

        Returns:
            (W, V) logits of the tokens that follow the wanted ones.
        """
        ids, slots, columns = np.array(tokens).T
        apart = len(np.unique(slots)) == len(slots)  # then each token takes its slot's row, and no key is copied
        rows = slots if apart else np.arange(len(slots))
        placed = torch.tensor([[0], [self.rows], [0]]).repeat(1, self.rows)
        placed[:, rows] = torch.from_numpy(np.stack([ids, slots, columns]))
        ids, slots, columns = placed.to(self.model.device)  # (R,) each
        for layer in self.layers:
            layer.slots, layer.columns, layer.apart = slots, columns, apart
        keep = np.zeros(max(self.block, -(-len(wanted) // self.block) * self.block), dtype=np.int64)
        keep[: len(wanted)] = rows[list(wanted)]
        logits = self.model(
            input_ids=ids[None],
            attention_mask=_additive(self.columns <= columns[:, None], self.model.dtype)[:, None, None],
            position_ids=columns[None],
            cache=self.cache,
            use_cache=True,
            logits_to_keep=torch.as_tensor(keep, device=self.model.device),
        ).logits
        return logits[0, : len(wanted)]

    def copy(self, source: int, target: int, columns: int) -> None:
        """Copy the first columns of a slot to another."""
        for layer in self.layers:
            layer.keys[target, :, :columns] = layer.keys[source, :, :columns]
            layer.values[target, :, :columns] = layer.values[source, :, :columns]


class _SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, (S, H, L, D); `slots` and `columns`, (R,) each, say where a pass writes."""

    def __init__(self, slots: int, length: int) -> None:
        super().__init__()
        self.size, self.length = slots, length
        self.slots = self.columns = torch.empty(0)
        self.apart = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room for entries like these, (1, H, R, D)."""
        _, heads, _, width = key_states.shape
        self.keys = key_states.new_zeros(self.size, heads, self.length, width)
        self.values = value_states.new_zeros(self.size, heads, self.length, value_states.shape[-1])
        self.heads = torch.arange(heads, device=key_states.device)
        self.is_initialized = True

    def update(self, key_states, value_states, *args, **kwargs):
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        lines = (self.slots[:, None] * len(self.heads) + self.heads) * self.length + self.columns[:, None]  # (R, H)
        for kept, states in ((self.keys, key_states), (self.values, value_states)):
            new = states[0].transpose(0, 1).flatten(0, 1)  # (R x H, D)
            kept.view(-1, kept.shape[-1]).index_copy_(0, lines.flatten(), new)
        if self.apart:
            return self.keys[:-1], self.values[:-1]
        return self.keys.index_select(0, self.slots), self.values.index_select(0, self.slots)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.length


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    sliding_window: int | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Attention of tokens that each have keys of their own; queries that share a key's head stand side by side.

    Args:
        query: (1, H x G, R, D).
        key, value: (R, H, L, D).
        attention_mask: (R, 1, 1, L), added to the scores.
        softcap: what bounds the scores, smoothly.

    Returns:
        (1, R, H x G, D).

    Raises:
        KnowshiftError: the model has attention sinks, or looks back less far than a slot is long.
    """
    if s_aux is not None or (sliding_window or key.shape[2]) < key.shape[2]:
        what = "attention sinks" if s_aux is not None else f"window of {sliding_window} tokens"
        raise KnowshiftError(f"engine: torch knows no {what}, which this model has; set engine: vllm")
    rows, heads, _, width = key.shape
    query = query[0].transpose(0, 1).reshape(rows, heads, -1, width)
    scores = torch.matmul(query, key.transpose(2, 3)).mul_(scaling)
    if softcap is not None:
        scores.div_(softcap).tanh_().mul_(softcap)
    weights = torch.softmax(scores.add_(attention_mask), -1, dtype=torch.float32).to(value.dtype)
    mixed = torch.matmul(weights, value)
    return mixed.flatten(1, 2)[None], None


AttentionInterface.register(ATTENTION, slot_attention)


def _additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask to add to scores: 0 where seen, else the lowest number."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)
