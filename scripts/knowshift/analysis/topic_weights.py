"""Accuracy standardised by topic: levels are compared on one mix of topics, whatever topics their facts are of."""

import numpy as np

from knowshift.analysis.answer_matrix import Panel
from knowshift.analysis.estimates import REPLICATES, Estimate
from knowshift.mastery.schemas import LEVELS

_COLUMNS = 32  # models that are averaged at a time, which bounds memory


def standardise(panel: Panel, topics: np.ndarray, rng: np.random.Generator) -> list[Estimate]:
    """Compute every model's headline accuracy, directly standardised to the topic mix of the whole set.

    On each level, the accuracies of the topics are averaged with the topics' shares of all questions of the set as
    weights; topics without a question on the level are left out, and the others' weights scaled up. The plain mean over
    levels follows. A resample draws the questions of each level with replacement, as for the raw headline.

    Args:
        panel: The answers to one set.
        topics: (F,) the topic of every fact of the mastery table.

    Returns:
        An estimate per column of the panel; NaN if a level has no questions.
    """
    names, mine = np.unique(topics[panel.facts].astype(str), return_inverse=True)
    shares = np.bincount(mine, minlength=len(names)) / panel.questions
    count = panel.correct.shape[1]
    value, drawn = np.zeros(count), np.zeros((REPLICATES, count))
    for level in LEVELS:
        rows = np.flatnonzero(panel.strata == level)
        if not len(rows):
            return [Estimate(float("nan"), np.full(REPLICATES, np.nan))] * count
        is_topic = (mine[rows][:, None] == np.arange(len(names))).astype(np.float32)
        times = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), REPLICATES).astype(np.float32)
        times = np.vstack([np.ones((1, len(rows)), np.float32), times])  # the first row: the questions themselves
        asked = times @ is_topic  # (1 + B, T) questions of each topic
        weights = np.where(asked > 0, shares, 0)
        weights = weights / weights.sum(1, keepdims=True) / np.maximum(asked, 1)
        for start in range(0, count, _COLUMNS):
            right = panel.correct[rows, start : start + _COLUMNS].astype(np.float32)
            by_topic = (is_topic[:, :, None] * right[:, None, :]).reshape(len(rows), -1)
            sums = (times @ by_topic).reshape(len(times), len(names), -1)
            means = (sums * weights[:, :, None]).sum(1) / len(LEVELS)
            value[start : start + _COLUMNS] += means[0]
            drawn[:, start : start + _COLUMNS] += means[1:]
    return [Estimate(float(value[column]), drawn[:, column]) for column in range(count)]
