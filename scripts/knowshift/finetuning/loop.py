"""Supervised fine-tuning on a few hundred to a few thousand facts (paper, section 3.1 and appendix B).

One plain loop, the same on a CPU, on a GPU and in many processes: with torch.distributed initialised the model is
sharded (`knowshift.finetuning.sharding`), every process takes its part of each batch, and a step computes what it would
compute with the whole batch in one process. Questions are short, so the examples of a step are packed end to end into
one sequence, and no padding is computed.
"""

import inspect
import math
from collections.abc import Iterator, Sequence, Set
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from knowshift.configuration.finetuning import Recipe
from knowshift.finetuning.distributed_tensors import gathered
from knowshift.finetuning.pull import Pull
from knowshift.finetuning.schedule import batches, first_target, learning_rate_at
from knowshift.randomness import derive_seed
from knowshift.runtime.errors import KnowshiftError

Example = tuple[list[int], int]  # token ids, and how many of them are the prompt

COMPARED = 4  # examples that are compared packed and apart
FLOAT32_TOLERANCE, HALF_TOLERANCE = 1e-4, 3e-2  # of the norm of their losses, by the type that a model computes in


def target_losses(
    model: PreTrainedModel, examples: Sequence[Example], loss_on: str, packed: bool = True
) -> torch.Tensor:
    """Return the negative log-likelihood of every target token of some examples, in nats.

    The model's own forward computes the logits, so whatever an architecture does to them (scaling, soft caps) counts.
    Its output head is applied at the positions that predict a target and nowhere else, where examples are packed; in a
    padded batch, at the positions that predict a target in any of its rows.

    Args:
        model: whole or sharded.
        examples: may be none, so that a process without examples takes part in the backward pass.
        loss_on: which tokens are targets, see `Recipe`.
        packed: put the examples end to end into one sequence, where their position ids tell attention where each
            begins; otherwise each is a sequence of a padded batch.

    Returns:
        (N,) losses in float32, in the order of the examples and their tokens; none if there are no examples.
    """
    sequences = [examples] if packed else [[example] for example in examples] or [[]]
    longest = max(2, *(sum(len(ids) for ids, _ in sequence) for sequence in sequences))
    ids, positions, real = (torch.zeros(len(sequences), longest, dtype=torch.long) for _ in range(3))  # (B, T)
    targets = torch.zeros_like(ids, dtype=torch.bool)  # whether a token is predicted
    for row, sequence in enumerate(sequences):
        start = 0
        for tokens, prompt in sequence:
            end = start + len(tokens)
            ids[row, start:end] = torch.tensor(tokens)
            positions[row, start:end] = torch.arange(len(tokens))
            real[row, start:end] = 1
            targets[row, start + first_target(prompt, loss_on) : end] = True
            start = end
    if not examples:
        real[:] = 1
    predicting = targets[:, 1:]  # a token is predicted at the position before its own
    asked = predicting.any(0).nonzero().flatten() if examples else torch.zeros(1, dtype=torch.long)  # (P,)
    how = {"position_ids": positions} if packed else {"attention_mask": real}
    how = {name: tensor.to(model.device) for name, tensor in how.items()}
    own = "logits_to_keep" in _arguments_of(model)
    keep = {"logits_to_keep": asked.to(model.device)} if own else {}
    logits = model(input_ids=ids.to(model.device), use_cache=False, **how, **keep).logits  # (B, P, V), or (B, T, V)
    if not own:
        logits = logits[:, asked.to(model.device)]
    if not examples:
        return 0.0 * logits.float().sum((1, 2))[:0]
    chosen = logits[predicting[:, asked].to(model.device)]  # (N, V)
    return cross_entropy(chosen.float(), ids[targets].to(model.device), reduction="none")


def _remedy(step: int, weights: torch.dtype, compute: torch.dtype | None) -> str:
    """Say what to do about a loss that is not finite: before the first update the learning rate is not to blame."""
    if step:
        return "lower finetuning.learning_rate"
    if compute:
        remedy = "set finetuning.compute to null" + (" or bfloat16" if compute == torch.float16 else "")
    elif weights != torch.float32:
        remedy = "set finetuning.dtype to float32" + (" or bfloat16" if weights == torch.float16 else "")
    else:
        return "nothing was learned yet, so the model's weights are damaged: fetch the model again"
    return f"nothing was learned yet, so the arithmetic overflows: {remedy}"


def _arguments_of(model: PreTrainedModel) -> Set[str]:
    """Return the names of the arguments of a model's forward."""
    return inspect.signature(type(model).forward).parameters.keys()


def can_pack(model: PreTrainedModel, examples: Sequence[Example], loss_on: str) -> bool:
    """Tell whether the model keeps packed examples apart; some architectures carry a state from one to the next.

    Four of the longest examples are compared, token by token: the losses differ by rounding alone, or the model mixes
    the examples.
    """
    if "position_ids" not in _arguments_of(model):
        return False
    some = sorted(examples, key=lambda example: len(example[0]))[-COMPARED:]
    with torch.no_grad():
        together, apart = (target_losses(model, some, loss_on, packed) for packed in (True, False))
    tolerance = FLOAT32_TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE
    return bool((together - apart).norm() <= tolerance * apart.norm())


def highest_of_all_processes(value: int, device: torch.device) -> int:
    """Return the highest value that any process passes, so that all act alike; every process must call this."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor(value, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return int(tensor)


def adamw(model: PreTrainedModel, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the optimizer of the parameters that are trained; its learning rate is set at every step.

    Raises:
        KnowshiftError: 8-bit moments are asked for, and bitsandbytes is not installed or the model is sharded.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    settings: dict[str, Any] = {
        "lr": 0.0,
        "betas": (recipe.beta1, recipe.beta2),
        "weight_decay": recipe.weight_decay,
    }
    alone = not dist.is_initialized()
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(trained, fused=alone, **settings)
    if not alone:
        raise KnowshiftError("optimizer adamw_8bit trains in one process; take adamw where a model is sharded")
    try:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports] (optional, not in the lock)
    except ImportError:
        raise KnowshiftError("optimizer adamw_8bit needs the package bitsandbytes (pip install bitsandbytes)") from None
    return AdamW8bit(trained, **settings)


def train(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    recipe: Recipe,
    seed: int,
    compute: torch.dtype | None = None,
    first: int = 0,
    packs: bool | None = None,
    pull: Pull | None = None,
) -> Iterator[dict[str, Any]]:
    """Fine-tune `model` in place, and yield a row in the schema `STEPS` after every optimizer step.

    Args:
        model: sharded if torch.distributed is initialised.
        optimizer: as `adamw` makes it; the learning rate is set here.
        examples: the training set.
        recipe: learning rates, batches and which tokens are learned.
        seed: decides the order of the examples, and what dropout drops.
        compute: autocast the arithmetic to this type; None computes in the weights' own.
        first: how many steps are done already; model and optimizer are as they were after them.
        packs: whether the model keeps packed examples apart, if that is known; otherwise `can_pack` tells.
        pull: what `recipe.l2_sp` pulls towards; None takes the weights that the model has now.

    Raises:
        KnowshiftError: the loss is not finite.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    packed = can_pack(model.eval(), examples, recipe.loss_on) if packs is None else packs
    model.train()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    pull = pull or Pull(optimizer, recipe.l2_sp)
    steps = batches(len(examples), recipe, seed)
    for step, indices in enumerate(steps[first:], first):
        batch = [examples[index] for index in indices]
        rate = learning_rate_at(step, len(steps), recipe)
        for group in optimizer.param_groups:
            group["lr"] = rate
        targets = sum(len(ids) - first_target(prompt, recipe.loss_on) for ids, prompt in batch)
        torch.manual_seed(derive_seed(seed, "dropout", step, rank))
        with torch.autocast(model.device.type, compute, enabled=compute is not None):
            loss = target_losses(model, batch[rank::world], recipe.loss_on, packed).sum()
        # FSDP averages gradients over processes; wanted is the mean over the targets of the whole batch.
        (loss * (world / targets)).backward()
        total = loss.detach()
        if world > 1:
            dist.all_reduce(total)
        mean = float(total) / targets
        if not math.isfinite(mean):
            raise KnowshiftError(f"the loss of step {step + 1} is {mean}; {_remedy(step, model.dtype, compute)}")
        pull.add_to_gradients()
        norm = torch.nn.utils.clip_grad_norm_(trained, recipe.max_gradient_norm or math.inf)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield {
            "step": step + 1,
            "examples": len(batch),
            "tokens": sum(len(ids) for ids, _ in batch),
            "target_tokens": targets,
            "loss": mean,
            "learning_rate": rate,
            "gradient_norm": float(gathered(norm)),
        }
    model.eval()
