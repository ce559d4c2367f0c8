"""What every optimizer step is: its learning rate, the examples of its batch, and the tokens that are learned."""

import math

import numpy as np

from knowshift.configuration.finetuning import Recipe
from knowshift.randomness import derive_seed


def learning_rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Return the learning rate of optimizer step `step` (from 0) of `steps`."""
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
    """Return the indices of the examples of every optimizer step; each epoch takes all in a seeded order."""
    steps = []
    for epoch in range(recipe.epochs):
        order = np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(count).tolist()
        steps += [order[start : start + recipe.batch_size] for start in range(0, count, recipe.batch_size)]
    return steps


def first_target(prompt: int, loss_on: str) -> int:
    """Return the index of the first token that the loss is taken over; nothing predicts the very first token.

    Args:
        prompt: number of tokens of the prompt.
        loss_on: "answer" or "all", see `Recipe`.
    """
    return prompt if loss_on == "answer" else 1
