"""The comparison of strategies and the recommended model: candidates are chosen on dev and reported on test.

The choice follows the one-standard-error rule (Breiman et al. 1984): of all recipes whose accuracy on dev is
within one standard error of the best one's, the simplest is taken; a still simpler one that is as accurate on dev takes
its place. What is simple, in this order (`simplicity`):

1. nothing restored before something restored,
2. fewer training facts before more,
3. a smaller restored share before a larger one,
4. full fine-tuning before other methods,
5. mixed data, which needs no mastery levels, before data of one level.

All candidates are compared on the same dev questions and on the same seeds, those that every candidate was run with.

Where the configuration names tasks, a restored model is a candidate only if it keeps each of them within its tolerance
on the task's dev half, and the candidate with the highest accuracy on dev is taken: the task limits the share then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from knowshift.allowed_values import STRATEGY_TRAITS
from knowshift.analysis.answer_matrix import Answerer, Panel
from knowshift.analysis.columns import estimate_columns, interval_columns, known, table
from knowshift.analysis.contrasts import Contrast, crossed
from knowshift.analysis.estimates import mean_of
from knowshift.analysis.schemas import RECOMMENDATION, STRATEGIES
from knowshift.analysis.scores import references
from knowshift.analysis.study import BASE, TESTS, Condition, RestoredCondition, Study, reference_columns
from knowshift.mastery.schemas import LEVELS

CONTROLS = tuple(name for name, traits in STRATEGY_TRAITS.items() if traits.control)
FEW_QUESTIONS = 100  # with fewer dev questions a choice is said to be uncertain
FEWEST_QUESTIONS = 20  # with fewer test questions no interval is given: t intervals then leave the range of accuracies
_TAIL = 0.025  # on each side of an interval
_EQUAL = 1e-9  # differences of accuracies below this are rounding


@dataclass(frozen=True)
class Candidate:
    """A model that may be recommended: a condition, and what is restored of it (None: nothing)."""

    condition: Condition
    restoration: RestoredCondition | None = None

    @property
    def answerers(self) -> list[Answerer]:
        """The models, one per run."""
        return self.restoration.answerers if self.restoration else self.condition.answerers

    @property
    def by_seed(self) -> dict[int, Answerer]:
        """Seed to the model that was trained with it."""
        seeds = dict(zip(self.condition.runs, self.condition.seeds, strict=True))
        return {seeds[key.run]: key for key in self.answerers}

    @property
    def restored_columns(self) -> dict:
        """The columns that say what is restored; nothing restored is 0 % of the region transformer."""
        if self.restoration is None:
            return {"strategy": "top", "region": "transformer", "percent": 0.0}
        return {name: getattr(self.restoration, name) for name in ("strategy", "region", "percent")}


def simplicity(candidate: Candidate) -> tuple:
    """The place of a candidate in the order of simplicity, as a sort key: the simplest is the smallest."""
    condition, undone = candidate.condition, candidate.restored_columns
    return (
        candidate.restoration is not None,
        condition.size,
        undone["percent"],
        condition.method != "full",
        condition.data != "mixed",
        undone["strategy"] != "top",
        condition.method,
        condition.data,
        undone["strategy"],
        undone["region"],
    )


@dataclass(frozen=True)
class Contest:
    """Candidates compared on one set of questions, with equal seeds.

    Attributes:
        panel: The answers to the questions.
        candidates: Those that are compared, simplest first.
        seeds: The seeds that all of them have.
    """

    panel: Panel
    candidates: tuple[Candidate, ...]
    seeds: tuple[int, ...]

    def keys(self, candidate: Candidate) -> list[Answerer]:
        """The candidate's models of the seeds that are compared, in their order."""
        return [candidate.by_seed[seed] for seed in self.seeds]

    def accuracy(self, candidate: Candidate) -> float:
        """The mean accuracy over the levels that have questions, and over the seeds."""
        return self._accuracies[candidate]

    @cached_property
    def _accuracies(self) -> dict[Candidate, float]:
        return {candidate: self.panel.known_level_mean(self.keys(candidate)) for candidate in self.candidates}

    @cached_property
    def best(self) -> Candidate:
        """The candidate with the highest accuracy; among equals the simplest."""
        highest = max(self._accuracies.values())
        return next(one for one in self.candidates if self.accuracy(one) >= highest - _EQUAL)

    def behind(self, candidate: Candidate) -> Contrast:
        """How far a candidate's accuracy is below the best one's: the paired difference over facts and seeds."""
        return over_levels(self.panel, self.panel.differences(self.keys(self.best), self.keys(candidate)))

    @cached_property
    def chosen(self) -> Candidate:
        """The simplest candidate behind the best one by no more than one standard error, or a simpler one as accurate.

        Standard errors of differences differ, so a simpler one may be as accurate and yet lie outside its own error.
        """
        within = next(one for one in self.candidates if (gap := self.behind(one)).value <= gap.standard_error + _EQUAL)
        return next(one for one in self.candidates if self.accuracy(one) >= self.accuracy(within) - _EQUAL)


def compare(study: Study, candidates: Sequence[Candidate]) -> Contest | None:
    """Compare candidates on dev, on the seeds that all of them have.

    If no seed is common to all, the seed that most of them have is taken (the first of equals), and the others are left
    out. It is None if there are no candidates or no dev questions.
    """
    dev = study.panels.get("dev")
    if dev is None or not candidates:
        return None
    ordered = sorted(candidates, key=simplicity)
    common = set.intersection(*(set(one.by_seed) for one in ordered))
    if not common:
        counts: dict[int, int] = {}
        for seed in sorted(seed for one in ordered for seed in one.by_seed):
            counts[seed] = counts.get(seed, 0) + 1
        common = {max(counts, key=counts.__getitem__)}
        ordered = [one for one in ordered if common <= set(one.by_seed)]
    return Contest(dev, tuple(ordered), tuple(sorted(common)))


def list_candidates(study: Study) -> list[Candidate]:
    """Every condition that was fine-tuned here, and every restored condition of these that is no control."""
    return [one for condition in study.conditions if not condition.elsewhere for one in candidates_of(study, condition)]


def candidates_of(study: Study, condition: Condition) -> list[Candidate]:
    """A condition, and what was restored of it, is no control and keeps the tasks."""
    return [
        Candidate(condition),
        *(
            Candidate(condition, one)
            for one in study.restorations
            if one.condition == condition and one.percent and one.strategy not in CONTROLS and study.keeps_tasks(one)
        ),
    ]


def decide(study: Study, candidates: Sequence[Candidate]) -> tuple[Contest, Candidate] | None:
    """The comparison of some candidates, and the one that is recommended; None as in `choose`.

    Where there are tasks that all candidates keep, it is the most accurate one on dev, and otherwise that of `choose`.
    """
    comparison = compare(study, candidates)
    return comparison and (comparison, comparison.best if study.tasks else comparison.chosen)


def choose(study: Study, candidates: Sequence[Candidate]) -> Candidate | None:
    """The simplest candidate that is on dev within one standard error of the best one.

    Accuracy on dev is the mean over the levels that dev has questions of, and over the seeds that all candidates have.
    It is None if there are no candidates or no dev questions.
    """
    comparison = compare(study, candidates)
    return comparison.chosen if comparison else None


def best_on_dev(study: Study, candidates: Sequence[Candidate]) -> Candidate | None:
    """The candidate with the highest accuracy on dev, on equal seeds; among equals the simplest; None as in `choose`.

    It shows what restoring can do; what is recommended is `choose`.
    """
    comparison = compare(study, candidates)
    return comparison.best if comparison else None


def chosen_restoration(study: Study, condition: Condition) -> RestoredCondition | None:
    """The restoration of a condition that is best on dev, or the smallest without dev; None if nothing was restored.

    Controls are left out.
    """
    sweep = [one for one in candidates_of(study, condition) if one.restoration]
    best = best_on_dev(study, sweep) or min(sweep, key=simplicity, default=None)
    return best.restoration if best else None


def tabulate_strategies(study: Study) -> pa.Table:
    """Compare the model of each strategy that `choose` takes, in the schema `STRATEGIES`; controls are left out."""
    rows = [
        {"strategy": name, "chosen": "as it is"} | row
        for name, key in references(study).items()
        for row in _on_tests(study, reference_columns(name), [key], compared=key != BASE)
    ]
    full = [condition for condition in study.conditions if condition.method == "full"]
    plans = {
        "mixed": [Candidate(condition) for condition in full if condition.data == "mixed"],
        "divided": [Candidate(condition) for condition in full if condition.data != "mixed"],
        "lora": [Candidate(condition) for condition in study.conditions if condition.method == "lora"],
        "restored": [candidate for candidate in list_candidates(study) if candidate.restoration],
    }
    for name, candidates in plans.items():
        taken, how = choose(study, candidates), "on dev"
        if taken is None and name in ("mixed", "lora"):
            mixed = [candidate for candidate in candidates if candidate.condition.data == "mixed"]
            taken, how = max(mixed, key=lambda candidate: candidate.condition.size, default=None), "largest size"
        if taken is None:
            continue
        one = taken.restoration
        undone = {"selection": one.strategy, "region": one.region, "percent": one.percent} if one else {}
        for row in _on_tests(study, taken.condition.columns | undone, taken.answerers):
            rows.append({"strategy": name, "chosen": how} | row)
    return table(rows, STRATEGIES)


def _on_tests(study: Study, head: dict, keys: Sequence[Answerer], compared: bool = True) -> list[dict]:
    """Rows of some models on the test sets, with their gain over the pre-trained model if `compared` is set."""
    rows = []
    for name in TESTS:
        if panel := study.panels.get(name):
            each = [panel.headline([key]) for key in keys]
            gain = interval_columns("gain", mean_of(each) - panel.headline([BASE])) if compared else {}
            count = {"set": name, "seeds": len(keys), "questions": panel.questions}
            rows.append(head | count | estimate_columns("accuracy", each) | gain)
    return rows


def recommend(study: Study, folder: str) -> pa.Table:
    """What is recommended, in the schema `RECOMMENDATION`.

    It is one recipe of all that were trained here, and for each model that was fine-tuned elsewhere, whether and how
    to restore it.

    Args:
        study: The study.
        folder: The model's folder of results, as the command that exports a model names it.
    """
    elsewhere = [condition for condition in study.conditions if condition.elsewhere]
    contests = [candidates_of(study, condition) for condition in elsewhere]
    if (here := list_candidates(study)) or not elsewhere:
        contests.insert(0, here)
    return pa.concat_tables([_recommend(study, folder, candidates) for candidates in contests])


def _recommend(study: Study, folder: str, candidates: Sequence[Candidate]) -> pa.Table:
    """The recipe that `choose` takes and its accuracy on test, in the schema `RECOMMENDATION`.

    Its gain is over the unrestored recipe that is best on dev, on the same seeds. Of its runs, the one that is best on
    dev is named for export.

    Args:
        study: The study.
        folder: As in `recommend`.
        candidates: The recipes.
    """
    decided = decide(study, candidates)
    if decided is None:
        reason = "no dev questions were asked" if study.conditions else "no fine-tuned model was run"
        return table([{"reason": reason}], RECOMMENDATION)
    comparison, taken = decided
    dev = comparison.panel
    unrestored = tuple(one for one in comparison.candidates if one.restoration is None)
    plain = replace(comparison, candidates=unrestored).best if unrestored else Candidate(taken.condition)
    export = max(comparison.keys(taken), key=lambda key: dev.known_level_mean([key]))  # the first of equals
    undone, behind = taken.restored_columns, comparison.behind(taken)
    share = f"{undone['strategy']}-{undone['region']}-{undone['percent']:g}"
    head = {
        "run": export.run,
        **taken.condition.columns,
        **undone,
        "seeds": len(comparison.seeds),
        "dev_accuracy": comparison.accuracy(taken),
        "dev_questions": dev.questions,
        "candidates": len(comparison.candidates),
        "behind": behind.value,
        "behind_error": behind.standard_error,
        "left_out": _left_out(study, candidates),
        **{f"unrestored_{name}": plain.condition.columns[name] for name in ("method", "data", "size")},
        "note": _note(comparison),
        "command": f"snakemake {folder}/exports/{export.run}/{share}/manifest.json",
    }
    models = (comparison.keys(taken), [plain.by_seed[seed] for seed in comparison.seeds])
    rows = [head | _worth(study.panels[name], export, *models) for name in TESTS if name in study.panels]
    return table(rows, RECOMMENDATION)


def _left_out(study: Study, candidates: Sequence[Candidate]) -> int | None:
    """How many restored models of the same conditions are no candidates since they do not keep the tasks."""
    if not study.tasks:
        return None
    conditions = {one.condition for one in candidates}
    return sum(
        one.condition in conditions
        and bool(one.percent)
        and one.strategy not in CONTROLS
        and not study.keeps_tasks(one)
        for one in study.restorations
    )


def _note(comparison: Contest) -> str | None:
    """Say what makes the choice uncertain; None if nothing does."""
    notes = []
    if comparison.panel.questions < FEW_QUESTIONS:
        notes.append(f"{comparison.panel.questions} dev questions are few, so the choice is uncertain")
    if len(comparison.seeds) == 1 and not comparison.candidates[0].condition.elsewhere:
        notes.append("all recipes have one seed in common, so another training set could change the choice")
    return "; ".join(notes) or None


def _worth(panel: Panel, export: Answerer, keys: list[Answerer], plain: list[Answerer]) -> dict:
    """The columns of a recipe's accuracy on a test set, and of its gains.

    Args:
        export: The run that is exported.
        keys: The recipe's models, one per seed.
        plain: The models of the best unrestored recipe, one per seed.
    """
    unrestored, base = [Answerer(key.run) for key in keys], [BASE] * len(keys)
    means = {
        "accuracy": _mean(panel, panel.correct[:, [panel.columns[key] for key in keys]]),
        "gain": _mean(panel, panel.differences(keys, plain)),
        "gain_unrestored": _mean(panel, panel.differences(keys, unrestored)),
        "gain_pretrained": _mean(panel, panel.differences(keys, base)),
    }
    columns = {"set": panel.name, "questions": panel.questions}
    columns["unrestored_accuracy"] = known(_mean(panel, panel.correct[:, [panel.columns[key] for key in plain]]).value)
    columns["run_accuracy"] = known(_mean(panel, panel.correct[:, [panel.columns[export]]]).value)
    for name, mean in means.items():
        tells = mean.variance and panel.questions >= FEWEST_QUESTIONS  # where nothing varies, nothing is known
        half = mean.half_width(_TAIL) if tells else float("nan")
        columns |= {name: known(mean.value)}
        columns |= {f"{name}_low": known(mean.value - half), f"{name}_high": known(mean.value + half)}
    return columns


def _mean(panel: Panel, values: np.ndarray) -> Contrast:
    """The mean of the five level means; unknown if a level has no questions."""
    return crossed([values], panel.strata, len(LEVELS))


def over_levels(panel: Panel, values: np.ndarray) -> Contrast:
    """The mean over seeds, over the facts of each level, and over the levels that have facts, with its variance.

    Args:
        panel: the questions, for their levels.
        values: (N, S) a row per fact and a column per seed: grades, or differences of two models' grades.
    """
    present, strata = np.unique(panel.strata, return_inverse=True)
    return crossed([values], strata, len(present))
