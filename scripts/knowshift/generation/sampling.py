"""Choosing the next token of each row from its logits and one uniform number."""

import numpy as np
import torch

CANDIDATES = 64  # how many of the likeliest tokens are looked at first, …
MORE_CANDIDATES = 2048  # … then, for the few rows whose token is not among them; after these, all
BLOCK = 64  # tokens whose maximum stands for them while candidates are sought


class Sampler:
    """Chooses tokens; it keeps its large intermediate arrays, since to allocate them costs more than to fill them."""

    def __init__(self) -> None:
        self._scaled = torch.empty(0)
        self._probabilities = torch.empty(0)

    def pick(self, logits: torch.Tensor, temperature: float, uniforms: np.ndarray) -> torch.Tensor:
        """Choose one token per row by inverting the cumulative distribution.

        Tokens are ordered by probability, highest first, equal ones by id: of all orders this one lets the fewest choices
        flip when logits change in their low bits.

        Args:
            logits: (R, V), any float type.
            temperature: 0 takes the highest logit.
            uniforms: (R,) float64 in [0, 1); not looked at when greedy.

        Returns:
            (R,) token ids.
        """
        if temperature == 0:
            return logits.argmax(-1)
        rows, tokens = logits.shape
        if len(self._scaled) < rows or self._scaled.shape[1:] != (tokens,) or self._scaled.device != logits.device:
            self._scaled = torch.empty(logits.shape, device=logits.device)
            self._probabilities = torch.empty_like(self._scaled)
        scaled = self._scaled[:rows].copy_(logits).mul_(1 / temperature)  # (R, V)
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
    """Values and ids (R, C) of the likeliest tokens, in no order.

    They lie in the C blocks with the highest maxima, and to look there is several times faster than a `topk` of all.
    """
    rows, tokens = probabilities.shape
    if tokens % BLOCK or tokens // BLOCK <= count:
        values, ids = probabilities.topk(min(count, tokens), dim=-1, sorted=False)
        return values, ids
    blocks = probabilities.view(rows, -1, BLOCK)
    places = blocks.amax(-1).topk(count, dim=-1, sorted=False).indices  # (R, C)
    inside = blocks.gather(1, places[:, :, None].expand(-1, -1, BLOCK)).flatten(1)  # (R, C x BLOCK)
    values, within = inside.topk(count, dim=-1, sorted=False)
    return values, places.gather(1, within // BLOCK) * BLOCK + within % BLOCK


def _invert(
    values: torch.Tensor, ids: torch.Tensor, target: torch.Tensor, whole: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The chosen ids (R,), and whether they are certain.

    Args:
        values, ids: (R, C) candidates, in any order.
        target: (R,) uniform numbers.
        whole: the candidates are all tokens; otherwise a choice is certain only if no token outside can come before it or
            equal it.
    """
    ids, order = ids.sort(dim=-1)
    values, order = values.gather(1, order).sort(dim=-1, descending=True, stable=True)
    ids = ids.gather(1, order)
    cumulative = values.double().cumsum(-1)
    if whole:
        target = target * cumulative[:, -1]  # the sum is 1 but for rounding
    place = (cumulative <= target[:, None]).sum(-1, keepdim=True).clamp(max=ids.shape[1] - 1)
    certain = (values.gather(1, place) > values[:, -1:])[:, 0] | whole
    return ids.gather(1, place)[:, 0], certain
