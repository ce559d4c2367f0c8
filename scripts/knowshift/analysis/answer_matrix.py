"""The answer matrix: which of a model's runs answered which question, with a row per fact and a column per run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from knowshift.analysis.contrasts import Arm, Contrast, contrast
from knowshift.analysis.estimates import Estimate, bootstrap_means, mean_of, stratum_means
from knowshift.mastery.schemas import LEVELS
from knowshift.randomness import derive_seed
from knowshift.runtime.errors import KnowshiftError

_KEYS = ["run", "strategy", "region", "percent", "set"]
_BATCH = 1 << 18  # rows of the table of answers that are read at a time


class Answerer(NamedTuple):
    """A model that was asked: the name of a run, `base` or `instruct`, and what was restored of it (None: nothing)."""

    run: str
    strategy: str | None = None
    region: str | None = None
    percent: float | None = None


@dataclass(frozen=True)
class Answers:
    """The answers of one model to one set, in the order of the facts.

    Attributes:
        facts: (N,) row numbers of the facts in the mastery table, rising.
        correct: (N,) whether each answer is right.
        logprob: (N,) mean log-probability, in nats, of the tokens of the right answer.
    """

    facts: np.ndarray
    correct: np.ndarray
    logprob: np.ndarray

    def level_means(self, levels: np.ndarray) -> np.ndarray:
        """(5,) the accuracy on the questions of each mastery level; NaN for a level without questions.

        Args:
            levels: (F,) the level of every fact of the mastery table.
        """
        return stratum_means(self.correct[:, None], levels[self.facts], len(LEVELS))[:, 0]


def headline(level_means: np.ndarray) -> np.ndarray:
    """The headline accuracy: the plain mean of the five level accuracies; NaN if a level has no questions.

    Args:
        level_means: (…, 5) accuracies by mastery level.
    """
    return level_means.mean(-1)


def read_answers(path: Path, rule: str, fact_ids: Sequence[str]) -> dict[str, dict[Answerer, Answers]]:
    """Read all answers: set name to answerer to answers, in the order of the file.

    Args:
        path: A table in the schema `ANSWERS`; it is read in batches.
        rule: The matching rule that decides which answers are right.
        fact_ids: The facts of the mastery table, in its order.
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
    """Read consecutive rows of one answerer and set: (run, strategy, region, percent, set) and their answers."""
    file = pq.ParquetFile(path, read_dictionary=[name for name in (*_KEYS, "fact_id") if name != "percent"])
    for batch in file.iter_batches(_BATCH, columns=[*_KEYS, "fact_id", rule, "gold_logprob"]):
        table = batch.to_pandas()
        positions = index.get_indexer(table["fact_id"].cat.categories)[table["fact_id"].cat.codes]
        correct, logprob = table[rule].to_numpy(bool), table["gold_logprob"].to_numpy()
        marks = [table[name].fillna(-1) if name == "percent" else table[name].cat.codes for name in _KEYS]
        changed = np.any([mark.to_numpy()[1:] != mark.to_numpy()[:-1] for mark in marks], axis=0)
        starts = [0, *(np.flatnonzero(changed) + 1).tolist(), len(table)]
        for start, stop in pairwise(starts):
            key = tuple(None if pd.isna(value) else value for value in table[_KEYS].iloc[start])
            yield key, Answers(positions[start:stop], correct[start:stop], logprob[start:stop])


class Panel:
    """The answers of many models to the same questions, with a bootstrap that all of them share.

    Attributes:
        name: The name of the set.
        columns: Answerer to the index of its column.
        facts: (N,) row numbers of the facts in the mastery table.
        strata: (N,) the mastery level of each fact.
        correct: (N, C) whether each model's answer is right.
        logprob: (N, C) mean log-probability, in nats, of the tokens of the right answer.
    """

    def __init__(self, name: str, answers: dict[Answerer, Answers], levels: np.ndarray, seed: int) -> None:
        """Stack the answers to one set.

        Args:
            name: The name of the set.
            answers: Answerer to its answers.
            levels: (F,) the level of every fact of the mastery table.
            seed: The experiment's seed.

        Raises:
            KnowshiftError: Models were asked different questions.
        """
        self.name, self._seed = name, seed
        self.columns = {key: column for column, key in enumerate(answers)}
        self.facts = next(iter(answers.values())).facts
        for key, given in answers.items():
            if not np.array_equal(given.facts, self.facts):
                raise KnowshiftError(f"set {name}: {key.run} was asked other questions than the first model")
        self.strata = levels[self.facts]
        self.correct = np.stack([given.correct for given in answers.values()], axis=1)
        self.logprob = np.stack([given.logprob for given in answers.values()], axis=1)

    def __contains__(self, key: Answerer) -> bool:
        """Whether a model was asked these questions."""
        return key in self.columns

    @property
    def questions(self) -> int:
        """The number of questions."""
        return len(self.facts)

    @cached_property
    def means(self) -> np.ndarray:
        """(5, C) the accuracy of each model on the questions of each level; NaN for a level without questions."""
        return stratum_means(self.correct, self.strata, len(LEVELS))

    @cached_property
    def replicates(self) -> np.ndarray:
        """(B, 5, C) the same accuracies on B resamples of the facts."""
        rng = np.random.default_rng(derive_seed(self._seed, "bootstrap", self.name))
        return bootstrap_means(self.correct, self.strata, len(LEVELS), rng)

    @cached_property
    def weights(self) -> np.ndarray:
        """(N,) the weight of each fact in the headline accuracy."""
        return 1 / (len(LEVELS) * np.bincount(self.strata, minlength=len(LEVELS))[self.strata])

    def headline(self, keys: Sequence[Answerer]) -> Estimate:
        """The headline accuracy, mean over models."""
        return mean_of([self._headline(self.columns[key]) for key in keys])

    def _headline(self, column: int) -> Estimate:
        return Estimate(float(headline(self.means[:, column])), headline(self.replicates[:, :, column]))

    def on_level(self, keys: Sequence[Answerer], level: int) -> Estimate:
        """The accuracy on the questions of one level, mean over models."""
        columns = [self.columns[key] for key in keys]
        return Estimate(float(self.means[level, columns].mean()), self.replicates[:, level, columns].mean(1))

    def compare(self, arms: Sequence[Arm]) -> Contrast:
        """A contrast of headline accuracies, with its variance over draws and facts.

        Args:
            arms: What is compared; their columns are answerers.
        """
        return contrast(self.correct, self.columns, self.strata, len(LEVELS), arms)

    def differences(self, ones: Sequence[Answerer], others: Sequence[Answerer]) -> np.ndarray:
        """(N, P) the difference of P pairs of models: 1 if only the first is right, -1 if only the second, else 0."""
        first, second = ([self.columns[key] for key in keys] for keys in (ones, others))
        return self.correct[:, first].astype(np.int8) - self.correct[:, second].astype(np.int8)

    def known_level_mean(self, keys: Sequence[Answerer]) -> float:
        """The mean accuracy over those levels that have questions, mean over models; dev is compared by it."""
        columns = [self.columns[key] for key in keys]
        return float(np.nanmean(self.means[:, columns], axis=0).mean())
