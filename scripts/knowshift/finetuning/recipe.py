"""What a fine-tuning does: its settings, learning rate and batches."""

import math
from dataclasses import dataclass

import numpy as np

from knowshift.randomness import derive_seed


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
        optimizer: "adamw", or "adamw_8bit": moments in blocks of 8 bits, 2 bytes a parameter instead of 8.
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
    optimizer: str = "adamw"


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


def first_target(prompt: int, loss_on: str) -> int:
    """The first token of an example that the loss is taken over; nothing predicts the very first."""
    return prompt if loss_on == "answer" else 1
