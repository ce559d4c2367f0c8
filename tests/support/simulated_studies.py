"""Studies whose true accuracies are known: answers vary over facts, over draws of the training set, and by chance.

A model answers a fact where a normal number exceeds a threshold. The number is made of the fact's own part, which all
models share; of the run's own part, which a restored model mostly shares; and of a shift of the whole draw and of the
whole run, which is what another training set would change.
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd

from knowshift.analysis.answer_matrix import Answerer, Answers
from knowshift.analysis.shifts import Shift
from knowshift.analysis.study import BASE, Study

LLAMA_TEST = (2383, 3664, 1484, 1109, 915)  # in-domain test facts of LLaMA-3-8B by level (published mastery table)
LLAMA_ACCURACY = (0.01, 0.29, 0.67, 0.80, 0.89)  # by level, about the mean of its data kinds at 1,920 facts
KINDS = ("level0", "level1", "level2", "level3", "level4")
FACTS = 0.6  # share of the normal number's variance that is the fact's; the rest is the run's
KEPT = 0.9  # share of the run's own part that a restored model keeps

_NORMAL = NormalDist()


def simulate(
    rng: np.random.Generator,
    cells: Mapping[str, Sequence[int]],
    seeds: int,
    spread: float,
    per_level: Sequence[int] = LLAMA_TEST,
    restored: Mapping[str, Mapping[int, Sequence[float]]] | None = None,
    truth: Mapping[tuple, Sequence[float]] | None = None,
    base: Sequence[float] = LLAMA_ACCURACY,
) -> tuple[Study, dict[str, Shift]]:
    """A study whose cells all have the same true accuracies, unless some are given.

    Args:
        cells: Data kind to its sizes.
        seeds: The number of draws.
        spread: The standard deviation of a cell's headline accuracy over draws, 0 to 1; half of its variance is the
            draw's at all sizes, half is the run's.
        per_level: The number of test questions per level; dev has a tenth, at least ten.
        restored: Data kind to size to the percents restored.
        truth: (data, size) or (data, size, percent) to the true accuracy on each level, where it differs.
        base: The true accuracy on each level of all other cells.
    """
    sets = {"test": np.array(per_level), "dev": np.maximum(np.array(per_level) // 10, 10)}
    counts = np.stack(list(sets.values()))
    levels = np.concatenate([np.repeat(np.arange(5), count) for count in counts])
    own = [rng.standard_normal(len(levels), dtype=np.float32) * np.sqrt(FACTS)]
    own.append(rng.standard_normal(len(levels), dtype=np.float32))  # how far a fact's distribution moves
    slope = np.mean([_NORMAL.pdf(_NORMAL.inv_cdf(share)) for share in base])  # of the headline in a shift of all
    sd = spread / slope / np.sqrt(2)
    correct: dict[Answerer, np.ndarray] = {BASE: rng.random(len(levels)) < np.array(base)[levels] / 2}
    rows, moved = [], {}

    def answers(key: tuple, noise: np.ndarray, shift: float) -> np.ndarray:
        thresholds = np.array([_NORMAL.inv_cdf(1 - share) for share in (truth or {}).get(key, base)], np.float32)
        return own[0] + noise + np.float32(shift) > thresholds[levels]

    for data, sizes in cells.items():
        for seed in range(1, seeds + 1):
            drawn = rng.normal(0, sd)
            for size in sizes:
                run = f"full-{data}-{size}-s{seed}"
                shift = drawn + rng.normal(0, sd)
                noise = rng.standard_normal(len(levels), dtype=np.float32) * np.float32(np.sqrt(1 - FACTS))
                correct[Answerer(run)] = answers((data, size), noise, shift)
                here = levels == 4
                moved[run] = pd.Series(
                    np.exp(0.5 * own[1][here] + 0.5 * rng.standard_normal(here.sum()) + rng.normal(0, 0.05)),
                    np.flatnonzero(here),
                )
                rows.append({"run": run, "method": "full", "data": data, "size": str(size), "facts": size,
                             "seed": seed, "state": "run"})  # fmt: skip
                for percent in (restored or {}).get(data, {}).get(size, ()):
                    fresh = rng.standard_normal(len(levels), dtype=np.float32) * np.float32(np.sqrt(1 - FACTS))
                    mixed = np.sqrt(KEPT) * noise + np.sqrt(1 - KEPT) * fresh
                    key = (data, size, percent)
                    half = shift + rng.normal(0, sd / 2)
                    correct[Answerer(run, "top", "transformer", percent)] = answers(key, mixed, half)
    ends = np.cumsum(counts.sum(1))
    given: dict[str, dict[Answerer, Answers]] = {}
    for name, stop, count in zip(sets, ends, counts.sum(1), strict=True):
        facts = np.arange(stop - count, stop)
        nothing = np.zeros(count, np.float32)
        given[name] = {key: Answers(facts, right[facts], nothing) for key, right in correct.items()}
    study = Study(pd.DataFrame(rows), given, levels, 1)
    return study, {"test": Shift(study, study.panels["test"], moved)}


def held(study: Study, share: float = 0.88) -> pd.DataFrame:
    """A table of concentration in which every restored share holds the same share of both sums."""
    rows = [
        {"run": run, "region": one.region, "percent": one.percent}
        for one in study.restorations
        for run in one.runs
    ]  # fmt: skip
    names = ["run", "region", "percent"]
    return pd.DataFrame(rows, columns=names).assign(share_without_zeros=share, share_of_squares=share)
