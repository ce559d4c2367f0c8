"""Studies whose answers are made up, so that what statistics say of them is known beforehand."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from knowshift.analysis.answer_matrix import Answerer, Answers
from knowshift.analysis.study import BASE, Study

SETS = ("dev", "test", "test_ood")


def make_study(
    accuracy: Mapping[tuple[str, int, int], float],
    restored: Mapping[tuple[str, int, int, float], float] | None = None,
    before: float = 0.3,
    per_level: int = 100,
    dev: Mapping[tuple, float] | None = None,
    sets: tuple[str, ...] = SETS,
    levels: tuple[int, ...] = (0, 1, 2, 3, 4),
    noise: float = 0.0,
    seed: int = 0,
    elsewhere: Mapping[tuple, float] | None = None,
) -> Study:
    """A study in which every level of every set is answered with a given accuracy.

    Args:
        accuracy: (data, size, seed of the draw) to accuracy.
        restored: the same with a percent after it.
        dev: accuracies on dev, of keys of both kinds, where they differ from the others.
        elsewhere: (name,) or (name, percent) of a model that was fine-tuned elsewhere to accuracy.
        noise: 0: of two models the better one answers all that the other does; 1: they answer independently.
    """
    draw = np.random.default_rng(seed)
    strata = np.tile(np.repeat(levels, per_level), len(sets))
    size = len(levels) * per_level
    models = {BASE: (before, before)}
    for key, value in {**accuracy, **(restored or {})}.items():
        data, facts, number, *percent = key
        run = f"full-{data}-{facts}-s{number}"
        answerer = Answerer(run, "top", "transformer", percent[0]) if percent else Answerer(run)
        models[answerer] = (value, (dev or {}).get(key, value))
    for key, value in (elsewhere or {}).items():
        restored_part = ("top", "transformer", key[1]) if len(key) > 1 else ()
        models[Answerer(f"tuned-{key[0]}", *restored_part)] = (value, (dev or {}).get(key, value))
    answers: dict[str, dict[Answerer, Answers]] = {}
    for index, name in enumerate(sets):
        facts = np.arange(index * size, (index + 1) * size)
        shared = np.concatenate([draw.permutation(per_level) for _ in levels])
        for answerer, (held_out, on_dev) in models.items():
            rank = shared
            if noise:
                own = np.concatenate([draw.permutation(per_level) for _ in levels])
                rank = np.where(draw.random(size) < noise, own, shared)
            correct = rank < round((on_dev if name == "dev" else held_out) * per_level)
            logprob = np.where(correct, -0.2, -2.0).astype(np.float32)
            answers.setdefault(name, {})[answerer] = Answers(facts, correct, logprob)
    cells = pd.DataFrame(
        [
            {
                "run": f"full-{data}-{facts}-s{number}",
                "method": "full",
                "data": data,
                "size": str(facts),
                "facts": facts,
                "seed": number,
                "state": "run",
            }
            for data, facts, number in accuracy
        ]
    )
    names = dict.fromkeys(key[0] for key in elsewhere or {})
    rows = [{"run": f"tuned-{name}", "method": "tuned", "data": name, "state": "run"} for name in names]
    return Study(pd.concat([cells, pd.DataFrame(rows)]) if rows else cells, answers, strata, 1)
