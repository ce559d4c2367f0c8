"""Choice of the next token of each sequence from its logits and one uniform random number."""

import numpy as np
import torch

CANDIDATES = 64  # how many of the likeliest tokens are looked at first, …
MORE_CANDIDATES = 2048  # … then, for the few rows whose token is not among them; after these, all
BLOCK = 64  # tokens; candidates are sought by the maxima of such blocks of the vocabulary


class Sampler:
    """Chooses tokens. It reuses its large buffers, since allocating them costs more than filling them."""

    def __init__(self) -> None:
        """Start without buffers; `pick` allocates them."""
        self._scaled = torch.empty(0)
        self._probabilities = torch.empty(0)

    def pick(self, logits: torch.Tensor, temperature: float, uniforms: np.ndarray) -> torch.Tensor:
        """Choose one token per row by inverting the cumulative distribution.

        Tokens are ordered by probability, highest first, and equal ones by id. Of all orders this one lets the fewest
        choices flip when logits change in their low bits.

        Args:
            logits: (B, V), any floating-point type.
            temperature: 0 takes the highest logit.
            uniforms: (B,) float64 in [0, 1); not used at temperature 0.

        Returns:
            (B,) int64 token ids.
        """
        if temperature == 0:
            return logits.argmax(-1)
        rows, tokens = logits.shape
        if len(self._scaled) < rows or self._scaled.shape[1:] != (tokens,) or self._scaled.device != logits.device:
            self._scaled = torch.empty(logits.shape, device=logits.device)
            self._probabilities = torch.empty_like(self._scaled)
        scaled = self._scaled[:rows].copy_(logits).mul_(1 / temperature)  # (B, V)
        probabilities = torch.softmax(scaled, -1, out=self._probabilities[:rows])
        target = torch.as_tensor(uniforms, device=logits.device)
        chosen, certain = _invert(*_likeliest(probabilities, CANDIDATES), target)
        for count in (MORE_CANDIDATES, logits.shape[-1]):
            rows = torch.nonzero(~certain)[:, 0]
            if len(rows):
                some = probabilities[rows].topk(min(count, logits.shape[-1]), dim=-1)
                chosen[rows], certain[rows] = _invert(*some, target[rows], whole=count >= logits.shape[-1])
        return chosen


def _likeliest(probabilities: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the C = `count` likeliest tokens of each row.

    They lie in the C blocks with the highest maxima; looking only there is several times faster than `topk` over the
    whole vocabulary.

    Args:
        probabilities: (B, V).

    Returns:
        Their probabilities and ids, (B, C) each, in no order.
    """
    rows, tokens = probabilities.shape
    if tokens % BLOCK or tokens // BLOCK <= count:
        values, ids = probabilities.topk(min(count, tokens), dim=-1, sorted=False)
        return values, ids
    blocks = probabilities.view(rows, -1, BLOCK)
    best = blocks.amax(-1).topk(count, dim=-1, sorted=False).indices  # (B, C) indices of blocks
    inside = blocks.gather(1, best[:, :, None].expand(-1, -1, BLOCK)).flatten(1)  # (B, C x BLOCK)
    values, within = inside.topk(count, dim=-1, sorted=False)
    return values, best.gather(1, within // BLOCK) * BLOCK + within % BLOCK


def _invert(
    values: torch.Tensor, ids: torch.Tensor, target: torch.Tensor, whole: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Invert the cumulative distribution of each row over its candidates.

    Args:
        values, ids: (B, C) probabilities and ids of candidates, in any order.
        target: (B,) uniform random numbers, float64.
        whole: the candidates are the whole vocabulary. Otherwise a choice is certain only if no token outside them can
            come before it or equal it.

    Returns:
        The chosen ids (B,), and whether they are certain (B,).
    """
    ids, order = ids.sort(dim=-1)
    values, order = values.gather(1, order).sort(dim=-1, descending=True, stable=True)
    ids = ids.gather(1, order)
    cumulative = values.double().cumsum(-1)
    if whole:
        target = target * cumulative[:, -1]  # the sum is 1 but for rounding
    index = (cumulative <= target[:, None]).sum(-1, keepdim=True).clamp(max=ids.shape[1] - 1)
    certain = (values.gather(1, index) > values[:, -1:])[:, 0] | whole
    return ids.gather(1, index)[:, 0], certain
