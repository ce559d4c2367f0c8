"""Ways to undo a part of an update compared: the knowledge that each gives back, against taught facts that it costs.

A way is a strategy of restoration, or a training that differs from full fine-tuning in one setting. All ways of a cell
and region start at the fine-tuned model. Those of restoration end at the model whose region is that of the base, so
their curves share both ends. docs/report.md says how each number is made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from knowshift.allowed_values import STRATEGY_TRAITS
from knowshift.analysis.answer_matrix import Answerer, Panel
from knowshift.analysis.columns import interval_columns, known, table
from knowshift.analysis.estimates import Estimate, bootstrap_means, holm, mean_of, permutation_p, permutations_for
from knowshift.analysis.knowledge import KNOWLEDGE
from knowshift.analysis.study import TESTS, Condition, Study
from knowshift.analysis.undoing_schemas import UNDOING, UNDOING_RULES, UNDOING_WAYS

PLAIN = "full"  # the method that ways to train otherwise are compared with
REFERENCE = "top"  # the paper's way, which all others are compared with
TAUGHT_KEPT = 0.9  # of the taught facts that the fine-tuned model answers: the loss at which ways are compared
HELD = 0.9  # of the sum of relative changes, of the second rule that reads weights alone
NORM_LEFT = 0.5  # of the update's norm, of the third


@dataclass(frozen=True)
class Point:
    """One model of each run on a way, of which a share is undone or which was trained otherwise.

    Attributes:
        percent: how much is undone; None where it was trained otherwise.
        keys: the model of each run.
        method: the method that trained it otherwise; None where something is undone.
    """

    percent: float | None
    keys: tuple[Answerer, ...]
    method: str | None = None


@dataclass(frozen=True)
class Contest:
    """The ways that were tried on one condition and region.

    Attributes:
        condition: the fine-tuned models.
        region: whose update is undone.
        runs: the runs that every way was tried on.
        ways: strategy to its points, rising from 0 %; then way to train otherwise to its points, from the same first.
        closed: whether every strategy ends at 100 %.
    """

    condition: Condition
    region: str
    runs: tuple[str, ...]
    ways: Mapping[str, tuple[Point, ...]]
    closed: bool

    @property
    def columns(self) -> dict:
        """The columns that name it in a table."""
        return {**self.condition.columns, "region": self.region, "seeds": len(self.runs)}

    @property
    def reference(self) -> str:
        """The way that the others are compared with."""
        return REFERENCE if REFERENCE in self.ways else next(iter(self.ways))


def list_contests(study: Study, trainings: Mapping[str, str] | None = None) -> list[Contest]:
    """List the conditions and regions of which something was undone, with their ways in the order of the strategies.

    Args:
        study: The study.
        trainings: Method to the way in which it trains otherwise than full fine-tuning does. Where all parameters were
            trained and something was undone, these are ways as well.
    """
    groups: dict[tuple, list] = {}
    for one in study.restorations:
        groups.setdefault((one.condition, one.region), []).append(one)
    found = []
    for (condition, region), every in groups.items():
        tried = {one.strategy for one in every}
        shared = set.intersection(*(set(one.runs) for one in every))
        runs = tuple(run for run in condition.runs if run in shared)
        if not runs or all(one.percent in (0, 100) for one in every):
            continue  # whole blocks of layers that went back are no way with shares to choose from
        # The model with 100 % undone is the same one whichever way leads to it.
        last = next((one.strategy for one in every if one.percent == 100), None)
        ways = {}
        for strategy in (name for name in STRATEGY_TRAITS if name in tried):
            shares = {one.percent: strategy for one in every if one.strategy == strategy and 0 < one.percent < 100}
            shares |= {100.0: last} if last else {}
            points = [
                Point(percent, tuple(Answerer(run, name, region, percent) for run in runs))
                for percent, name in sorted(shares.items())
            ]
            ways[strategy] = (Point(0.0, tuple(Answerer(run) for run in runs)), *points)
        if condition.method == PLAIN:
            ways |= _trained_otherwise(study, condition, runs, trainings or {})
        found.append(Contest(condition, region, runs, ways, last is not None))
    return found


def _trained_otherwise(
    study: Study, condition: Condition, runs: Sequence[str], trainings: Mapping[str, str]
) -> dict[str, tuple[Point, ...]]:
    """The ways to train otherwise on the training sets of some runs, each from the model that nothing is undone of."""
    seeds = [seed for run, seed in zip(condition.runs, condition.seeds, strict=True) if run in runs]
    ways: dict[str, tuple[Point, ...]] = {}
    for method, way in trainings.items():
        for other in study.conditions:
            run_of = dict(zip(other.seeds, other.runs, strict=True))
            same = (other.method, other.data, other.asked) == (method, condition.data, condition.asked)
            if same and run_of.keys() >= set(seeds):
                start = ways.get(way, (Point(0.0, tuple(Answerer(run) for run in runs)),))
                ways[way] = (*start, Point(None, tuple(Answerer(run_of[seed]) for seed in seeds), method))
    return ways


@dataclass(frozen=True)
class Curve:
    """What the points of a way answer.

    Attributes:
        taught: of each point, the share of its own training set that a run answers, mean over runs; empty if it was
            not asked.
        knowledge: of each point, the share of the facts known before training that a run answers, mean over runs.
    """

    taught: tuple[Estimate, ...]
    knowledge: tuple[Estimate, ...]

    def area(self) -> Estimate | None:
        """The mean of knowledge over the taught facts that are lost on the way; None if it is not known.

        It is the area below the curve, by the trapezoidal rule from point to point, divided by its width.
        """
        if not self.taught:
            return None
        x, y = ([one.value for one in side] for side in (self.taught, self.knowledge))
        values = _mean_height(np.array([x]), np.array([y]))[0]
        x, y = (np.stack([one.replicates for one in side], axis=1) for side in (self.taught, self.knowledge))
        return Estimate(float(values), _mean_height(x, y)) if not np.isnan(values) else None


def _mean_height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The area below curves divided by their width; NaN where nothing is lost.

    Args:
        x: (B, P) the horizontal places of the points.
        y: (B, P) their heights.
    """
    width = x[:, 0] - x[:, -1]
    area = ((x[:, :-1] - x[:, 1:]) * (y[:, :-1] + y[:, 1:]) / 2).sum(1)
    return np.where(width > 0, area / np.where(width > 0, width, 1), np.nan)


class _Known:
    """The answers to the facts of a set that were known before training."""

    def __init__(self, study: Study, panel: Panel, knowledge: np.ndarray) -> None:
        self.panel = panel
        self.rows = np.flatnonzero(knowledge[panel.facts] == KNOWLEDGE[0])
        self._rng = ("undoing", panel.name)
        self._study = study

    def answers(self, point: Point) -> np.ndarray:
        """(K, R) whether each run answers each fact that was known."""
        return self.panel.correct[self.rows][:, [self.panel.columns[key] for key in point.keys]]

    def curve(self, points: Sequence[Point]) -> Curve:
        """What a way's points answer."""
        values = np.stack([self.answers(point).mean(1) for point in points], axis=1)
        draws = bootstrap_means(values, np.zeros(len(values), int), 1, self._study.rng(*self._rng))[:, 0]
        heights = tuple(Estimate(float(values[:, column].mean()), draws[:, column]) for column in range(len(points)))
        return Curve(taught_of(self._study, points), heights)


def taught_of(study: Study, points: Sequence[Point]) -> tuple[Estimate, ...]:
    """The share of its own training set that each point answers, mean over runs; empty if it was not asked."""
    if any(key not in study.trained.get(key.run, {}) for point in points for key in point.keys):
        return ()
    return tuple(mean_of([study.trained[key.run][key] for key in point.keys]) for point in points)


def tabulate_undoing(
    study: Study, knowledge: np.ndarray, trainings: Mapping[str, str] | None = None
) -> tuple[pa.Table, pa.Table]:
    """Compare all ways, in the schemas `UNDOING` (a row per share) and `UNDOING_WAYS` (a row per way).

    Args:
        study: The study.
        knowledge: (F,) what `knowledge_of` says of every fact.
        trainings: See `list_contests`.
    """
    contests = list_contests(study, trainings)
    points, ways = table([], UNDOING), []
    for name in (name for name in TESTS if name in study.panels):
        known_facts = _Known(study, study.panels[name], knowledge)
        if not len(known_facts.rows):
            continue
        permutations = permutations_for(sum(len(contest.ways) for contest in contests))
        family = []
        for contest in contests:
            curves = {way: known_facts.curve(mine) for way, mine in contest.ways.items()}
            head = {**contest.columns, "set": name, "known": len(known_facts.rows)}
            points = pa.concat_tables([points, table(_point_rows(contest, curves, known_facts, head), UNDOING)])
            family += _way_rows(study, contest, curves, known_facts, head, permutations)
        corrected = holm(np.array([np.nan if row["p"] is None else row["p"] for row in family]))
        ways += [row | {"p_corrected": known(value)} for row, value in zip(family, corrected, strict=True)]
    return points, table(ways, UNDOING_WAYS)


def _point_rows(contest: Contest, curves: Mapping[str, Curve], known_facts: _Known, head: dict) -> list[dict]:
    """The rows of `UNDOING` of one contest and set."""
    rows = []
    for way, mine in contest.ways.items():
        curve, tuned = curves[way], known_facts.answers(mine[0])
        for number, point in enumerate(mine):
            right = known_facts.answers(point)
            taught = interval_columns("taught", curve.taught[number]) if curve.taught else {}
            rows.append(
                {
                    **head,
                    "strategy": way,
                    "percent": point.percent,
                    "variant": point.method,
                    **taught,
                    **interval_columns("knowledge", curve.knowledge[number]),
                    "kept": float((right & tuned).mean()),
                    "regained": float((right & ~tuned).mean()),
                }
            )
    asked = [row for row in rows if row.get("taught") is not None]
    for row in rows:
        row["frontier"] = None if row.get("taught") is None else not any(_beats(other, row) for other in asked)
    return rows


def _beats(one: dict, other: dict) -> bool:
    """Tell whether a row answers at least as much of both kinds as another, and more of one."""
    pairs = [(one[name], other[name]) for name in ("taught", "knowledge")]
    return all(mine >= theirs for mine, theirs in pairs) and any(mine > theirs for mine, theirs in pairs)


def _way_rows(
    study: Study,
    contest: Contest,
    curves: Mapping[str, Curve],
    known_facts: _Known,
    head: dict,
    permutations: int,
) -> list[dict]:
    """The rows of `UNDOING_WAYS` of one contest and set, without corrected p values."""
    ends = {way for way in curves if contest.closed and way in STRATEGY_TRAITS}
    areas = {way: curve.area() if way in ends else None for way, curve in curves.items()}
    matched = {way: matched_on_dev(study, mine) for way, mine in contest.ways.items()}
    reference, rows = contest.reference, []
    for way, mine in contest.ways.items():
        row = {**head, "strategy": way, "points": len(mine), "reference": reference}
        area, base = areas[way], areas[reference]
        if area is not None:
            row |= interval_columns("area", area)
        if area is not None and base is not None and way != reference:
            row |= interval_columns("over_reference", area - base)
        if best := best_on_dev(study, mine):
            accuracy = known_facts.panel.headline(best.keys)
            row |= {"best_percent": best.percent, "best_variant": best.method}
            row |= interval_columns("best_accuracy", accuracy)
        point, other = matched[way], matched[reference]
        row["p"] = None
        if point:
            number = mine.index(point)
            taught = known(curves[way].taught[number].value) if curves[way].taught else None
            row |= {"matched_percent": point.percent, "matched_variant": point.method, "matched_taught": taught}
            row |= interval_columns("matched_knowledge", curves[way].knowledge[number])
        if point and other and way != reference:
            apart = known_facts.answers(point).astype(np.int8) - known_facts.answers(other)
            gain = (
                curves[way].knowledge[mine.index(point)]
                - curves[reference].knowledge[contest.ways[reference].index(other)]
            )
            row |= interval_columns("matched_gain", gain)
            rng = study.rng("undoing permutation", head["set"], *map(str, contest.columns.values()), way)
            row["p"] = permutation_p(apart.mean(1), np.full(len(apart), 1 / len(apart)), rng, permutations)
        rows.append(row)
    return rows


def best_on_dev(study: Study, points: Sequence[Point]) -> Point | None:
    """The point that undoes something and is best on dev, the first among equals; None without dev."""
    dev = study.panels.get("dev")
    if dev is None or len(points) < 2:
        return None
    return max(points[1:], key=lambda point: round(dev.known_level_mean(point.keys), 12))


def matched_on_dev(study: Study, points: Sequence[Point]) -> Point | None:
    """The point best on dev of those that still answer `TAUGHT_KEPT` of the taught facts that the tuned model does.

    If no training set was asked, as of a model that was fine-tuned elsewhere, it is the best of those that keep the
    tasks. Nothing undone is one of them. It is None without dev questions, or if neither was asked.
    """
    dev, taught = study.panels.get("dev"), taught_of(study, points)
    if dev is None or not (taught or study.tasks):
        return None
    if taught:
        least = TAUGHT_KEPT * taught[0].value - 1e-12
        enough = [point for point, share in zip(points, taught, strict=True) if share.value >= least]
    else:
        enough = [point for point in points if all(task.keeps(point.keys) for task in study.tasks)]
    return max(enough, key=lambda point: round(dev.known_level_mean(point.keys), 12))


# --- shares chosen by weights alone ---


def tabulate_rules(study: Study, concentration: pd.DataFrame) -> pa.Table:
    """Score rules that choose a share of `top` without any question, in the schema `UNDOING_RULES`.

    The regret of a rule is the accuracy on test at the share that is best on dev, less that at the rule's share.

    Args:
        study: The study.
        concentration: A table in the schema `CONCENTRATION`.
    """
    rows = []
    for contest in list_contests(study):
        mine = contest.ways.get(REFERENCE, ())
        best = best_on_dev(study, mine)
        if best is None:
            continue
        held = concentration[concentration["run"].isin(contest.runs) & (concentration["region"] == contest.region)]
        shares = held.groupby("percent")[["share_without_zeros", "share_of_squares"]].mean()
        shares = shares[shares.index.isin([point.percent for point in mine[1:]])].dropna()
        for rule, percent in choose_shares(shares).items():
            point = next((point for point in mine if point.percent == percent), None)
            for name in (name for name in TESTS if name in study.panels):
                row = {**contest.columns, "set": name, "rule": rule, "percent": percent, "best_percent": best.percent}
                if point:
                    panel = study.panels[name]
                    chosen, other = panel.headline(point.keys), panel.headline(best.keys)
                    row |= {"accuracy": known(chosen.value), "best_accuracy": known(other.value)}
                    row |= interval_columns("regret", other - chosen)
                rows.append(row)
    return table(rows, UNDOING_RULES)


def choose_shares(shares: pd.DataFrame) -> dict[str, float | None]:
    """Choose a share by each rule, among those that were tried; None if none fits.

    Args:
        shares: the percent of parameters as the index, rising; the columns `share_without_zeros` and
            `share_of_squares`, what these parameters hold of the sums of r and of d^2.
    """
    percents = shares.index.to_numpy(float)
    above = shares["share_without_zeros"].to_numpy() - percents / 100
    enough = percents[shares["share_without_zeros"].to_numpy() >= HELD]
    halved = percents[shares["share_of_squares"].to_numpy() >= 1 - NORM_LEFT**2]
    return {
        "knee": float(percents[np.argmax(above)]) if len(percents) else None,
        "holds 90 %": float(enough[0]) if len(enough) else None,
        "half the norm": float(halved[0]) if len(halved) else None,
    }
