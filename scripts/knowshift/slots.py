"""Key-value caches of rows that are at different positions, and the attention over them."""

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.cache_utils import CacheLayerMixin

ATTENTION = "knowshift"  # the name under which transformers finds `grouped_attention`


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, (R, H, L, D): row r writes its next token where `places` says."""

    def __init__(self, rows: int, length: int) -> None:
        super().__init__()
        self.rows, self.length = rows, length
        self.places: torch.Tensor | None = None  # (R x H,) rows of the cache seen as (R x H x L, D)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room for entries like these, (…, H, 1 or more, D)."""
        self.keys = key_states.new_zeros(self.rows, key_states.shape[-3], self.length, key_states.shape[-1])
        self.values = value_states.new_zeros(self.rows, value_states.shape[-3], self.length, value_states.shape[-1])
        self.is_initialized = True

    def fill(self, row: int, keys: torch.Tensor, values: torch.Tensor, end: int) -> None:
        """Put a prompt's keys and values, (H, T, D), before position `end` of a row."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self.keys[row, :, end - keys.shape[1] : end] = keys
        self.values[row, :, end - values.shape[1] : end] = values

    def update(self, key_states, value_states, *args, **kwargs):
        self.keys.view(-1, self.keys.shape[-1]).index_copy_(0, self.places, key_states.flatten(0, 2))
        self.values.view(-1, self.values.shape[-1]).index_copy_(0, self.places, value_states.flatten(0, 2))
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.length


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Attention in which the queries that share keys stand side by side, so that keys and values are never repeated.

    Args:
        query: (R, H x G, T, D).
        key, value: (R, H, L, D).
        attention_mask: (R, 1, T, L), added to the scores.
    """
    rows, heads, tokens, width = query.shape
    groups = heads // key.shape[1]
    query = query.reshape(rows, key.shape[1], groups * tokens, width)
    if tokens > 1:
        attention_mask = attention_mask.repeat(1, 1, groups, 1)
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
    else:  # plain products: on a CPU faster than the fused kernel, which is made for many queries
        scores = torch.matmul(query, key.transpose(2, 3)).mul_(scaling).add_(attention_mask)
        mixed = torch.matmul(torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype), value)
    return mixed.view(rows, heads, tokens, width).transpose(1, 2), None


AttentionInterface.register(ATTENTION, grouped_attention)
