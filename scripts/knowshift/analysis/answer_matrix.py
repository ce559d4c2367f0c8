"""Who answered which question: the graded answers of a model's runs as matrices, a row per fact."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from knowshift.analysis.estimates import Estimate, bootstrap_means, mean_of, stratum_means
from knowshift.mastery.schemas import LEVELS
from knowshift.randomness import derive_seed
from knowshift.runtime.errors import KnowshiftError

_KEYS = ["run", "strategy", "region", "percent", "set"]
_BATCH = 1 << 18  # rows


class Answerer(NamedTuple):
    """A model that was asked: a run, `base` or `instruct`, and what of its update was undone."""

    run: str
    strategy: str | None = None
    region: str | None = None
    percent: float | None = None


@dataclass(frozen=True)
class Answers:
    """The answers of one model to one set, in order of the facts.

    Attributes:
        facts: (N,) places of the facts in the mastery table, rising.
        correct: (N,) whether the answer is right.
        logprob: (N,) mean log-probability of the right answer's tokens.
    """

    facts: np.ndarray
    correct: np.ndarray
    logprob: np.ndarray


def read_answers(path: Path, rule: str, fact_ids: Sequence[str]) -> dict[str, dict[Answerer, Answers]]:
    """All answers, by set and model.

    Args:
        path: a table in the schema `ANSWERS`; it is read in pieces.
        rule: the matching rule that counts.
        fact_ids: of the mastery table, in its order.
    """
    index = pd.Index(fact_ids)
    pieces: dict[tuple, list[Answers]] = {}
    for key, part in _groups(path, rule, index):
        pieces.setdefault(key, []).append(part)
    answers: dict[str, dict[Answerer, Answers]] = {}
    for (*key, name), parts in pieces.items():
        facts, correct, logprob = (
            np.concatenate([getattr(part, field) for part in parts]) for field in ("facts", "correct", "logprob")
        )
        order = np.argsort(facts)
        answers.setdefault(name, {})[Answerer(*key)] = Answers(facts[order], correct[order], logprob[order])
    return answers


def _groups(path: Path, rule: str, index: pd.Index) -> Iterator[tuple[tuple, Answers]]:
    """Rows that follow one another with one key."""
    file = pq.ParquetFile(path, read_dictionary=[name for name in (*_KEYS, "fact_id") if name != "percent"])
    for batch in file.iter_batches(_BATCH, columns=[*_KEYS, "fact_id", rule, "gold_logprob"]):
        table = batch.to_pandas()
        places = index.get_indexer(table["fact_id"].cat.categories)[table["fact_id"].cat.codes]
        correct, logprob = table[rule].to_numpy(bool), table["gold_logprob"].to_numpy()
        marks = [table[name].fillna(-1) if name == "percent" else table[name].cat.codes for name in _KEYS]
        changed = np.any([mark.to_numpy()[1:] != mark.to_numpy()[:-1] for mark in marks], axis=0)
        starts = [0, *(np.flatnonzero(changed) + 1).tolist(), len(table)]
        for start, stop in pairwise(starts):
            key = tuple(None if pd.isna(value) else value for value in table[_KEYS].iloc[start])
            yield key, Answers(places[start:stop], correct[start:stop], logprob[start:stop])


class Panel:
    """The answers of many models to the same questions, with a bootstrap that all of them share.

    Attributes:
        name: of the set.
        facts: (N,) places of the facts in the mastery table.
        strata: (N,) mastery level of each.
        correct, logprob: (N, C) a column per model.
    """

    def __init__(self, name: str, answers: dict[Answerer, Answers], levels: np.ndarray, seed: int) -> None:
        """Args: levels of all facts of the mastery table; seed of the experiment.

        Raises:
            KnowshiftError: models were asked different questions.
        """
        self.name, self._seed = name, seed
        self.columns = {key: place for place, key in enumerate(answers)}
        self.facts = next(iter(answers.values())).facts
        for key, given in answers.items():
            if not np.array_equal(given.facts, self.facts):
                raise KnowshiftError(f"set {name}: {key.run} was asked other questions than the first model")
        self.strata = levels[self.facts]
        self.correct = np.stack([given.correct for given in answers.values()], axis=1)
        self.logprob = np.stack([given.logprob for given in answers.values()], axis=1)

    def __contains__(self, key: Answerer) -> bool:
        return key in self.columns

    @property
    def questions(self) -> int:
        return len(self.facts)

    @cached_property
    def means(self) -> np.ndarray:
        """(levels, C) accuracies."""
        return stratum_means(self.correct, self.strata, len(LEVELS))

    @cached_property
    def replicates(self) -> np.ndarray:
        """(B, levels, C) accuracies on resampled facts."""
        rng = np.random.default_rng(derive_seed(self._seed, "bootstrap", self.name))
        return bootstrap_means(self.correct, self.strata, len(LEVELS), rng)

    @cached_property
    def weights(self) -> np.ndarray:
        """(N,) of each fact in the headline accuracy."""
        return 1 / (len(LEVELS) * np.bincount(self.strata, minlength=len(LEVELS))[self.strata])

    def headline(self, keys: Sequence[Answerer]) -> Estimate:
        """The plain mean of the five level accuracies, mean over models; not known if a level has no questions."""
        return mean_of([self._headline(self.columns[key]) for key in keys])

    def _headline(self, column: int) -> Estimate:
        return Estimate(float(self.means[:, column].mean()), self.replicates[:, :, column].mean(1))

    def on_level(self, keys: Sequence[Answerer], level: int) -> Estimate:
        """Accuracy on the questions of one level, mean over models."""
        columns = [self.columns[key] for key in keys]
        return Estimate(float(self.means[level, columns].mean()), self.replicates[:, level, columns].mean(1))

    def differences(self, ones: Sequence[Answerer], others: Sequence[Answerer]) -> np.ndarray:
        """(N, pairs) -1, 0 or 1: right answers of some models less those of others, one by one."""
        first, second = ([self.columns[key] for key in keys] for keys in (ones, others))
        return self.correct[:, first].astype(np.int8) - self.correct[:, second].astype(np.int8)

    def known_level_mean(self, keys: Sequence[Answerer]) -> float:
        """The mean accuracy over the levels that have questions, mean over models: for choosing, where some are empty."""
        columns = [self.columns[key] for key in keys]
        return float(np.nanmean(self.means[:, columns], axis=0).mean())
