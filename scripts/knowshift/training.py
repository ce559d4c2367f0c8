"""Supervised fine-tuning on a few hundred to a few thousand facts (paper, section 3.1 and appendix B).

One plain loop, the same on a CPU, a GPU, or many processes: with torch.distributed initialised the model is sharded by
`fully_shard`, every process takes its part of each batch, and the arithmetic of a step stays that of the whole batch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from knowshift.errors import KnowshiftError
from knowshift.randomness import derive_seed

Example = tuple[list[int], int]  # token ids, and how many of them are the prompt

STEPS = pa.schema(
    [
        pa.field("step", pa.int32(), False, {"doc": "optimizer step, from 1"}),
        pa.field("examples", pa.int32(), False),
        pa.field("target_tokens", pa.int32(), False, {"doc": "tokens the loss is taken over"}),
        pa.field("loss", pa.float64(), False, {"doc": "mean negative log-likelihood in nats"}),
        pa.field("learning_rate", pa.float64(), False),
        pa.field("gradient_norm", pa.float64(), False, {"doc": "before clipping"}),
    ]
)


@dataclass(frozen=True)
class Recipe:
    """What of the training changes its result.

    Attributes:
        learning_rate: the peak.
        schedule: "cosine" (to zero), "linear" (to zero) or "constant", after the warm-up.
        warmup: share of the steps over which the rate rises linearly.
        batch_size: examples per optimizer step, over all processes together.
        epochs: passes over the training set.
        weight_decay: AdamW's, decoupled.
        beta1, beta2: AdamW's.
        max_gradient_norm: clip to this norm; 0 never clips.
        loss_on: "answer" or "all" tokens.
    """

    learning_rate: float
    schedule: str
    warmup: float
    batch_size: int
    epochs: int
    weight_decay: float
    beta1: float
    beta2: float
    max_gradient_norm: float
    loss_on: str


def learning_rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate of optimizer step `step` (from 0) of `steps`."""
    warm = round(recipe.warmup * steps)
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    if recipe.schedule == "linear":
        return recipe.learning_rate * (1 - done)
    return recipe.learning_rate


def batches(count: int, recipe: Recipe, seed: int) -> list[list[int]]:
    """The examples of every optimizer step: each epoch is its own seeded order of all `count` examples."""
    steps = []
    for epoch in range(recipe.epochs):
        order = np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(count).tolist()
        steps += [order[start : start + recipe.batch_size] for start in range(0, count, recipe.batch_size)]
    return steps


def shard(model: PreTrainedModel) -> None:
    """Shard parameters, gradients and optimizer state over the processes of torch.distributed (FSDP2), in place."""
    for layer in model.get_decoder().layers:
        fully_shard(layer)
    fully_shard(model)
    # The loss goes around the model's own forward, so FSDP must be told that it is one too: it gathers parameters there.
    model.summed_loss = partial(summed_loss, model)
    register_fsdp_forward_method(model, "summed_loss")


def summed_loss(model: PreTrainedModel, examples: Sequence[Example], loss_on: str) -> tuple[torch.Tensor, int]:
    """The summed negative log-likelihood of the target tokens of some examples, and their number.

    Logits are computed at the positions that predict a target and nowhere else.
    """
    longest = max((len(ids) for ids, _ in examples), default=1)
    ids = torch.zeros(max(1, len(examples)), longest, dtype=torch.long)  # (B, T)
    targets = torch.zeros_like(ids, dtype=torch.bool)  # whether a token is predicted
    real = torch.zeros_like(ids)
    for row, (tokens, prompt) in enumerate(examples):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        real[row, : len(tokens)] = 1
        targets[row, (prompt if loss_on == "answer" else 1) : len(tokens)] = True
    ids, real, targets = ids.to(model.device), real.to(model.device), targets.to(model.device)
    hidden = model.get_decoder()(input_ids=ids, attention_mask=real, use_cache=False).last_hidden_state  # (B, T, H)
    logits = model.get_output_embeddings()(hidden[:, :-1][targets[:, 1:]])  # (N, V)
    loss = cross_entropy(logits.float(), ids[targets], reduction="sum")
    return loss + 0.0 * hidden.sum() if not examples else loss, int(targets.sum())


def target_count(examples: Sequence[Example], loss_on: str) -> int:
    """How many tokens of some examples the loss is taken over."""
    return sum(len(ids) - (prompt if loss_on == "answer" else 1) for ids, prompt in examples)


def train(
    model: PreTrainedModel, examples: Sequence[Example], recipe: Recipe, seed: int, compute: torch.dtype | None = None
) -> Iterator[dict]:
    """Fine-tune `model` in place with AdamW, yielding a row in the schema `STEPS` after every optimizer step.

    Args:
        model: float32 master weights, sharded if torch.distributed is initialised.
        examples: the training set.
        recipe: what changes the result.
        seed: the order of the examples; nothing else is random.
        compute: autocast to this type, or None for the weights' own.

    Raises:
        KnowshiftError: the loss is not finite.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    model.train()
    loss_of = model.summed_loss if world > 1 else partial(summed_loss, model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, betas=(recipe.beta1, recipe.beta2), weight_decay=recipe.weight_decay,
        fused=world == 1,
    )  # fmt: skip
    plan = batches(len(examples), recipe, seed)
    for step, indices in enumerate(plan):
        batch = [examples[index] for index in indices]
        rate = learning_rate_at(step, len(plan), recipe)
        for group in optimizer.param_groups:
            group["lr"] = rate
        count = target_count(batch, recipe.loss_on)
        with torch.autocast(model.device.type, compute, enabled=compute is not None):
            loss, _ = loss_of(batch[rank::world], recipe.loss_on)
        # Sharding averages gradients over processes; the mean over the whole batch's targets is wanted.
        (loss * (world / count)).backward()
        total = loss.detach()
        if world > 1:
            dist.all_reduce(total)
        mean = float(total) / count
        if not math.isfinite(mean):
            raise KnowshiftError(f"the loss of step {step + 1} is {mean}; lower training.learning_rate")
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_gradient_norm or math.inf)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield {
            "step": step + 1,
            "examples": len(batch),
            "target_tokens": count,
            "loss": mean,
            "learning_rate": rate,
            "gradient_norm": float(norm),
        }
    model.eval()
