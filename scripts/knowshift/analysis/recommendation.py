"""The comparison of strategies and the recommended model: candidates are chosen on dev and reported on test."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer, Panel
from knowshift.analysis.columns import estimate_columns, interval_columns, table
from knowshift.analysis.estimates import mean_of
from knowshift.analysis.schemas import RECOMMENDATION, STRATEGIES
from knowshift.analysis.scores import references
from knowshift.analysis.study import BASE, TESTS, Condition, RestoredCondition, Study, reference_columns


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
    def restored_columns(self) -> dict:
        """The columns that say what is restored; nothing restored is 0 % of the region transformer."""
        if self.restoration is None:
            return {"strategy": "top", "region": "transformer", "percent": 0.0}
        return {name: getattr(self.restoration, name) for name in ("strategy", "region", "percent")}


def list_candidates(study: Study) -> list[Candidate]:
    """Everything that was run: every condition, and every restored condition."""
    return [
        *(Candidate(condition) for condition in study.conditions),
        *(Candidate(one.condition, one) for one in study.restorations if one.percent),
    ]


def choose(study: Study, candidates: Sequence[Candidate]) -> Candidate | None:
    """The candidate with the highest accuracy on dev, mean over the levels that dev has questions of, and over seeds.

    Among equals it is the one with fewer training facts, then with less restored. It is None if there are no candidates
    or no dev questions.
    """
    dev = study.panels.get("dev")
    if dev is None:
        return None
    return min(
        candidates,
        key=lambda candidate: (
            -round(dev.known_level_mean(candidate.answerers), 12),
            candidate.condition.size,
            candidate.restored_columns["percent"],
        ),
        default=None,
    )


def chosen_restoration(study: Study, condition: Condition) -> RestoredCondition | None:
    """The restoration of a condition that is best on dev, or the smallest without dev; None if nothing was restored."""
    sweep = [one for one in study.restorations if one.condition == condition and one.percent]
    best = choose(study, [Candidate(condition, one) for one in sweep])
    return best.restoration if best else min(sweep, key=lambda one: one.percent, default=None)


def tabulate_strategies(study: Study) -> pa.Table:
    """Compare the best model of each strategy, in the schema `STRATEGIES`."""
    rows = [
        {"strategy": name, "chosen": "as it is"} | row
        for name, key in references(study).items()
        for row in _on_tests(study, reference_columns(name), [key], compare=key != BASE)
    ]
    full = [condition for condition in study.conditions if condition.method == "full"]
    plans = {
        "mixed": [Candidate(condition) for condition in full if condition.data == "mixed"],
        "divided": [Candidate(condition) for condition in full if condition.data != "mixed"],
        "lora": [Candidate(condition) for condition in study.conditions if condition.method == "lora"],
        "restored": [candidate for candidate in list_candidates(study) if candidate.restoration],
    }
    for name, candidates in plans.items():
        best, how = choose(study, candidates), "on dev"
        if best is None and name in ("mixed", "lora"):
            mixed = [candidate for candidate in candidates if candidate.condition.data == "mixed"]
            best, how = max(mixed, key=lambda candidate: candidate.condition.size, default=None), "largest size"
        if best is None:
            continue
        one = best.restoration
        undone = {"selection": one.strategy, "region": one.region, "percent": one.percent} if one else {}
        for row in _on_tests(study, best.condition.columns | undone, best.answerers):
            rows.append({"strategy": name, "chosen": how} | row)
    return table(rows, STRATEGIES)


def _on_tests(study: Study, head: dict, keys: Sequence[Answerer], compare: bool = True) -> list[dict]:
    """Rows of some models on the test sets, with their gain over the pre-trained model if `compare` is set."""
    rows = []
    for name in TESTS:
        if panel := study.panels.get(name):
            each = [panel.headline([key]) for key in keys]
            gain = interval_columns("gain", mean_of(each) - panel.headline([BASE])) if compare else {}
            count = {"set": name, "seeds": len(keys), "questions": panel.questions}
            rows.append(head | count | estimate_columns("accuracy", each) | gain)
    return rows


def recommend(study: Study, folder: str) -> pa.Table:
    """The candidate that is best on dev, its best run, and that run's accuracy on test, in the schema `RECOMMENDATION`.

    Args:
        study: The study.
        folder: The model's folder of results, as the command that exports a model names it.
    """
    candidates = list_candidates(study)
    best = choose(study, candidates)
    if best is None:
        reason = "no dev questions were asked" if study.conditions else "no fine-tuned model was run"
        return table([{"reason": reason}], RECOMMENDATION)
    dev = study.panels["dev"]
    key = max(best.answerers, key=lambda key: dev.known_level_mean([key]))  # the first of equals
    undone = best.restored_columns
    share = f"{undone['strategy']}-{undone['region']}-{undone['percent']:g}"
    head = {
        "run": key.run,
        **best.condition.columns,
        **undone,
        "dev_accuracy": dev.known_level_mean(best.answerers),
        "dev_questions": dev.questions,
        "candidates": len(candidates),
        "command": f"snakemake {folder}/exports/{key.run}/{share}/manifest.json",
    }
    rows = [head | _worth(study.panels[name], key) for name in TESTS if name in study.panels]
    return table(rows, RECOMMENDATION)


def _worth(panel: Panel, key: Answerer) -> dict:
    """The columns of the exported model's accuracy on a test set, and of its gains."""
    accuracy = panel.headline([key])
    return {
        "set": panel.name,
        "questions": panel.questions,
        **interval_columns("accuracy", accuracy),
        **interval_columns("gain_unrestored", accuracy - panel.headline([Answerer(key.run)])),
        **interval_columns("gain_pretrained", accuracy - panel.headline([BASE])),
    }
