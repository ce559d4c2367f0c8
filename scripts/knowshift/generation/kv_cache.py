"""A KV cache divided into slots, and forward passes of a fixed number of tokens over it.

A slot holds the keys and values of one token sequence, one entry per position. The tokens of a pass may belong to any
slots and positions. Each is a batch row of its own, which attends to the positions of its slot up to its own. Its
result depends on what its slot holds and on the shape of the pass, not on which other tokens are in the pass.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from knowshift.generation.packed_linears import InBlocks
from knowshift.runtime.errors import KnowshiftError

ATTENTION = "knowshift"  # the name under which transformers finds `slot_attention`


class Token(NamedTuple):
    """A token that a forward pass reads: its id, the KV cache slot of its sequence, and its position in it."""

    id: int
    slot: int
    position: int


class CachedModel:
    """A model with a KV cache of S slots, whose forward passes read S tokens each."""

    def __init__(self, model: PreTrainedModel, tokens_per_pass: int, length: int) -> None:
        """Make an empty cache.

        Args:
            model: a model that `Engine` has prepared: it uses `slot_attention`, and its output layer is in blocks.
            tokens_per_pass: S, the number of tokens of a forward pass and of slots.
            length: L, positions of a slot.

        Raises:
            TypeError: the model's output layer is not in blocks.
        """
        head = model.get_output_embeddings()
        if not isinstance(head, InBlocks):
            raise TypeError("the model must be prepared by Engine")
        self.model, self.tokens_per_pass, self.block = model, tokens_per_pass, head.rows_per_block
        layers = model.config.get_text_config().num_hidden_layers
        # Rows of a pass without a token write to one slot more, the last.
        self.layers = [_SlotLayer(tokens_per_pass + 1, length) for _ in range(layers)]
        self.cache = Cache(layers=[*self.layers])
        self.positions = torch.arange(length, device=model.device)

    def forward(self, tokens: Sequence[Token], wanted: Sequence[int]) -> torch.Tensor:
        """Run one forward pass over at most S tokens, and store their keys and values.

        Args:
            tokens: all earlier positions of a token's slot are stored already, or are among the tokens before it.
            wanted: indices into `tokens`, W of them, of the tokens after which logits are wanted.

        Returns:
            (W, V) logits, in the model's dtype, of the token that follows each wanted one.
        """
        ids, slots, positions = np.array(tokens).T
        apart = len(np.unique(slots)) == len(slots)  # then each token takes its slot's row, and no key is copied
        rows = slots if apart else np.arange(len(slots))
        placed = torch.tensor([[0], [self.tokens_per_pass], [0]]).repeat(1, self.tokens_per_pass)
        placed[:, rows] = torch.from_numpy(np.stack([ids, slots, positions]))
        ids, slots, positions = placed.to(self.model.device)  # (S,) each
        for layer in self.layers:
            layer.slots, layer.positions, layer.apart = slots, positions, apart
        keep = np.zeros(max(self.block, -(-len(wanted) // self.block) * self.block), dtype=np.int64)
        keep[: len(wanted)] = rows[list(wanted)]
        logits = self.model(
            input_ids=ids[None],
            attention_mask=_additive_mask(self.positions <= positions[:, None], self.model.dtype)[:, None, None],
            position_ids=positions[None],
            cache=self.cache,
            use_cache=True,
            logits_to_keep=torch.as_tensor(keep, device=self.model.device),
        ).logits
        return logits[0, : len(wanted)]

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy the keys and values of the first `length` positions of one slot to another."""
        for layer in self.layers:
            layer.copy_slot(source, target, length)


class _SlotLayer(CacheLayerMixin):
    """Keys and values of one layer.

    Attributes:
        stored_keys, stored_values: (slots, H, L, D), with H key heads, L positions and D numbers per head.
        slots, positions: (S,) int64 each; where the current pass writes, one entry per row of the pass.
        apart: each row of the current pass stands at the index of its slot, so the cache is used as it lies.
    """

    def __init__(self, slots: int, length: int) -> None:
        super().__init__()
        self.size, self.length = slots, length
        self.stored_keys = self.stored_values = torch.empty(0)
        self.slots = self.positions = torch.empty(0)
        self.apart = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the cache for keys and values of the shape (1, H, S, D)."""
        _, heads, _, width = key_states.shape
        self.stored_keys = key_states.new_zeros(self.size, heads, self.length, width)
        self.stored_values = value_states.new_zeros(self.size, heads, self.length, value_states.shape[-1])
        self.heads = torch.arange(heads, device=key_states.device)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the keys and values of a pass, (1, H, S, D) each.

        Returns:
            The keys and values of each row's slot, (S, H, L, D) each.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        entries = (self.slots[:, None] * len(self.heads) + self.heads) * self.length + self.positions[:, None]  # (S, H)
        for stored, states in ((self.stored_keys, key_states), (self.stored_values, value_states)):
            new = states[0].transpose(0, 1).flatten(0, 1)  # (S x H, D)
            stored.view(-1, stored.shape[-1]).index_copy_(0, entries.flatten(), new)
        if self.apart:
            return self.stored_keys[:-1], self.stored_values[:-1]
        return self.stored_keys.index_select(0, self.slots), self.stored_values.index_select(0, self.slots)

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one slot to another."""
        self.stored_keys[target, :, :length] = self.stored_keys[source, :, :length]
        self.stored_values[target, :, :length] = self.stored_values[source, :, :length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Give the length of the mask and its offset, which transformers asks for."""
        return self.length, 0

    def get_seq_length(self) -> int:
        """Give 0: transformers must not count positions itself, since each slot has its own."""
        return 0

    def get_max_length(self) -> int:
        """Give the number of positions of a slot."""
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
    """Compute attention for tokens that have a KV cache slot each; a function for transformers' `AttentionInterface`.

    H is the number of key heads, G that of query heads per key head (they are neighbours), S that of tokens, L that of
    positions of a slot, and D the size of a head.

    Args:
        module: the attention layer (not used).
        query: (1, H x G, S, D).
        key, value: (S, H, L, D).
        attention_mask: (S, 1, 1, L), added to the scores.
        scaling: factor of the scores.
        dropout: not used; the model is in evaluation mode.
        softcap: bound of the scores, applied as softcap * tanh(score / softcap).
        s_aux: attention sinks, which are refused.
        sliding_window: how many positions a token attends to, where the model limits them.

    Returns:
        (1, S, H x G, D), and None for the attention weights.

    Raises:
        KnowshiftError: the model has attention sinks, or its window is shorter than a slot.
    """
    if s_aux is not None or (sliding_window or key.shape[2]) < key.shape[2]:
        what = "attention sinks" if s_aux is not None else f"window of {sliding_window} tokens"
        raise KnowshiftError(f"engine: torch knows no {what}, which this model has; set engine: generate")
    rows, heads, _, width = key.shape
    query = query[0].transpose(0, 1).reshape(rows, heads, -1, width)
    scores = torch.matmul(query, key.transpose(2, 3)).mul_(scaling)
    if softcap is not None:
        scores.div_(softcap).tanh_().mul_(softcap)
    weights = torch.softmax(scores.add_(attention_mask), -1, dtype=torch.float32).to(value.dtype)
    mixed = torch.matmul(weights, value)
    return mixed.flatten(1, 2)[None], None


def register_attention() -> None:
    """Make `slot_attention` known to transformers under the name `ATTENTION`; a second call changes nothing."""
    AttentionInterface.register(ATTENTION, slot_attention)


def _additive_mask(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Make a mask to add to attention scores: 0 where `seen` is true, else the lowest number of `dtype`."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)
