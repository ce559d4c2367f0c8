"""Supervised fine-tuning on a few hundred to a few thousand facts (paper, section 3.1 and appendix B).

One plain loop, the same on a CPU, a GPU, or many processes: with torch.distributed initialised the model is sharded
(`knowshift.finetuning.sharding`), every process takes its part of each batch, and the arithmetic of a step stays that of the whole
batch. Questions are short, so the examples of a step lie in one row, end to end, and no padding is computed.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from knowshift.finetuning.distributed_tensors import gathered
from knowshift.finetuning.recipe import Recipe, batches, first_target, learning_rate_at
from knowshift.randomness import derive_seed
from knowshift.runtime.errors import KnowshiftError

Example = tuple[list[int], int]  # token ids, and how many of them are the prompt


def summed_loss(model: PreTrainedModel, examples: Sequence[Example], loss_on: str, packed: bool = True) -> torch.Tensor:
    """The summed negative log-likelihood of the target tokens of some examples.

    Logits are computed at the positions that predict a target and nowhere else.

    Args:
        packed: the examples lie end to end in one row (their positions tell attention where one ends), not one in each.
    """
    rows = [examples] if packed else [[example] for example in examples] or [[]]
    longest = max(1, *(sum(len(ids) for ids, _ in row) for row in rows))
    ids, positions, real = (torch.zeros(len(rows), longest, dtype=torch.long) for _ in range(3))  # (B, T)
    targets = torch.zeros_like(ids, dtype=torch.bool)  # whether a token is predicted
    for number, row in enumerate(rows):
        start = 0
        for tokens, prompt in row:
            end = start + len(tokens)
            ids[number, start:end] = torch.tensor(tokens)
            positions[number, start:end] = torch.arange(len(tokens))
            real[number, start:end] = 1
            targets[number, start + first_target(prompt, loss_on) : end] = True
            start = end
    ids, positions, real, targets = (tensor.to(model.device) for tensor in (ids, positions, real, targets))
    mask = {} if packed else {"attention_mask": real}
    decoder = model.get_decoder()
    hidden = decoder(input_ids=ids, position_ids=positions, use_cache=False, **mask).last_hidden_state  # (B, T, H)
    logits = model.get_output_embeddings()(hidden[:, :-1][targets[:, 1:]])  # (N, V)
    loss = cross_entropy(logits.float(), ids[targets], reduction="sum")
    return loss if examples else loss + 0.0 * hidden.sum()  # a process without examples takes part in the backward pass


def loss_function(model: PreTrainedModel) -> Callable[..., torch.Tensor]:
    """`summed_loss` of a model; a sharded one has its own, through which FSDP gathers parameters."""
    return getattr(model, "summed_loss", partial(summed_loss, model))


def can_pack(model: PreTrainedModel, examples: Sequence[Example], loss_on: str) -> bool:
    """Whether the model keeps the examples of one row apart: some architectures carry a state from one to the next."""
    few = sorted(examples, key=lambda example: len(example[0]))[:2]
    loss_of = loss_function(model)
    with torch.no_grad():
        together, apart = (float(loss_of(few, loss_on, packed)) for packed in (True, False))
    return math.isclose(together, apart, rel_tol=1e-2)


def agree(wish: int, device: torch.device) -> int:
    """The highest of all processes' wishes, so that they act as one."""
    if not dist.is_initialized():
        return wish
    tensor = torch.tensor(wish, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return int(tensor)


def adamw(model: PreTrainedModel, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of what of the model is trained.

    Raises:
        KnowshiftError: 8-bit moments are asked for, and bitsandbytes is not installed or the model is sharded.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    settings = {"lr": 0.0, "betas": (recipe.beta1, recipe.beta2), "weight_decay": recipe.weight_decay}
    alone = not dist.is_initialized()
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(trained, fused=alone, **settings)
    if not alone:
        raise KnowshiftError("optimizer adamw_8bit trains in one process; take adamw where a model is sharded")
    try:
        from bitsandbytes.optim import AdamW8bit
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
) -> Iterator[dict]:
    """Fine-tune `model` in place, yielding a row in the schema `STEPS` after every optimizer step.

    Args:
        model: float32 master weights, sharded if torch.distributed is initialised.
        optimizer: of its trained parameters; the learning rate is set here.
        examples: the training set.
        recipe: what changes the result.
        seed: the order of the examples, and dropout where there is any.
        compute: autocast to this type, or None for the weights' own.
        first: how many steps are done already: model and optimizer are as they were after them.

    Raises:
        KnowshiftError: the loss is not finite.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    loss_of = loss_function(model)
    packed = can_pack(model.eval(), examples, recipe.loss_on)
    model.train()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    plan = batches(len(examples), recipe, seed)
    for step, indices in enumerate(plan[first:], first):
        batch = [examples[index] for index in indices]
        rate = learning_rate_at(step, len(plan), recipe)
        for group in optimizer.param_groups:
            group["lr"] = rate
        targets = sum(len(ids) - first_target(prompt, recipe.loss_on) for ids, prompt in batch)
        torch.manual_seed(derive_seed(seed, "dropout", step, rank))
        with torch.autocast(model.device.type, compute, enabled=compute is not None):
            loss = loss_of(batch[rank::world], recipe.loss_on, packed)
        # Sharding averages gradients over processes; the mean over the whole batch's targets is wanted.
        (loss * (world / targets)).backward()
        total = loss.detach()
        if world > 1:
            dist.all_reduce(total)
        mean = float(total) / targets
        if not math.isfinite(mean):
            raise KnowshiftError(f"the loss of step {step + 1} is {mean}; lower finetuning.learning_rate")
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
