"""A pull towards the weights that training starts from (L2-SP; Li, Grandvalet, Davoine, ICML 2018).

The loss gains half of the strength times the squared distance of the trained weights from those of the base, so their
gradient gains the strength times their change. It counts before gradients are clipped; the loss that is reported does
not hold it.
"""

import torch

from knowshift.finetuning.distributed_tensors import own_part


class Pull:
    """Keeps the weights that an optimizer trains as they are now, and pulls towards them.

    A process keeps its own part of sharded weights, in their own number format and on their own device. Make it before
    a saved state is loaded, while the weights are still those of the base.

    Args:
        optimizer: trains the weights.
        strength: factor of the squared distance, twice; 0 keeps nothing and pulls at nothing.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, strength: float) -> None:
        self._strength = strength
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]] if strength else []
        self._starts = [(parameter, own_part(parameter).detach().clone()) for parameter in trained]

    def add_to_gradients(self) -> None:
        """Add the gradient of the penalty to those of the loss; weights that have none have not moved."""
        with torch.no_grad():
            for parameter, start in self._starts:
                if parameter.grad is not None:
                    own_part(parameter.grad).add_(own_part(parameter) - start, alpha=self._strength)
