"""Accuracy of every single run: by set, by level, on its training set, beside divergence, and restored.

`scores.py` has the means over seeds with their intervals. Both take the accuracy on a level and the headline accuracy
from `answer_matrix.py`.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer, Answers, headline
from knowshift.analysis.columns import known, table
from knowshift.analysis.run_schemas import ACCURACY, ACCURACY_BY_LEVEL, DIVERGENCE_MEANS, RESTORED, TRAINING_ACCURACY
from knowshift.analysis.study import TESTS, correct_before
from knowshift.mastery.schemas import LEVELS

AnswersBySet = Mapping[str, Mapping[Answerer, Answers]]


def tabulate_runs(
    answers: AnswersBySet, levels: np.ndarray, divergences: Mapping[str, pa.Table]
) -> dict[str, pa.Table]:
    """Make the tables of single runs.

    Args:
        answers: Set name to answerer to answers, as `read_answers` gives them.
        levels: (F,) the mastery level of every fact of the mastery table.
        divergences: Run to its table in the schema `DIVERGENCE`.

    Returns:
        The tables `accuracy`, `accuracy_by_level`, `training_accuracy`, `divergence` and `restored`.
    """
    return {
        "accuracy": _accuracy(answers, levels),
        "accuracy_by_level": _accuracy_by_level(answers, levels),
        "training_accuracy": _training_accuracy(answers, levels),
        "divergence": _divergence(answers, levels, divergences),
        "restored": _restored(answers, levels),
    }


def _by_answerer(answers: AnswersBySet) -> dict[Answerer, dict[str, Answers]]:
    """Answerer to set name to answers; answerers in the order of the file, sets by name."""
    found: dict[Answerer, dict[str, Answers]] = {}
    for given in answers.values():
        for key in given:
            found[key] = {}
    for name in sorted(answers):
        for key, given in answers[name].items():
            found[key][name] = given
    return found


def score(given: Answers, levels: np.ndarray) -> dict:
    """The columns of a model's accuracy on one set.

    Args:
        given: Its answers.
        levels: (F,) the mastery level of every fact of the mastery table.
    """
    questions, correct = len(given.facts), int(given.correct.sum())
    return {
        "questions": questions,
        "correct": correct,
        "share_correct": correct / questions,
        "accuracy": known(float(headline(given.level_means(levels)))),
    }


def _accuracy(answers: AnswersBySet, levels: np.ndarray) -> pa.Table:
    rows = [
        {"run": key.run, "set": name, **score(given, levels)}
        for key, sets in _by_answerer(answers).items()
        if key.percent is None
        for name, given in sets.items()
    ]
    return table(rows, ACCURACY)


def _accuracy_by_level(answers: AnswersBySet, levels: np.ndarray) -> pa.Table:
    rows = []
    for key, sets in _by_answerer(answers).items():
        for name, given in sets.items() if key.percent is None else ():
            strata = levels[given.facts]
            questions = np.bincount(strata, minlength=len(LEVELS)).tolist()
            correct = np.bincount(strata[given.correct], minlength=len(LEVELS)).tolist()
            means = given.level_means(levels)
            rows += [
                {
                    "run": key.run,
                    "set": name,
                    "level": level,
                    "questions": questions[level],
                    "correct": correct[level],
                    "accuracy": known(means[level]),
                }
                for level in LEVELS
            ]
    return table(rows, ACCURACY_BY_LEVEL)


def _training_accuracy(answers: AnswersBySet, levels: np.ndarray) -> pa.Table:
    before = correct_before(answers, len(levels))
    rows = [
        {
            "run": key.run,
            "questions": len(given.facts),
            "before": float(before[given.facts].mean()),
            "after": float(given.correct.mean()),
        }
        for key, given in answers.get("training_set", {}).items()
        if key.percent is None
    ]
    return table(rows, TRAINING_ACCURACY)


def _divergence(answers: AnswersBySet, levels: np.ndarray, divergences: Mapping[str, pa.Table]) -> pa.Table:
    """Mean divergence over all facts of a run that were measured, beside the accuracy on level 4.

    `shifts.py` compares runs, so it averages over the facts that were measured in every run.
    """
    rows = []
    for run, measured in divergences.items():
        sets, kl = measured["set"].to_numpy(), measured["kl"].to_numpy()
        for name in TESTS:
            mine = kl[sets == name]
            given = answers.get(name, {}).get(Answerer(run))
            accuracy = None if given is None else known(given.level_means(levels)[LEVELS[-1]])
            mean = float(mine.mean()) if len(mine) else None
            rows.append({"run": run, "set": name, "facts": len(mine), "kl": mean, "accuracy_level4": accuracy})
    return table(rows, DIVERGENCE_MEANS)


def _restored(answers: AnswersBySet, levels: np.ndarray) -> pa.Table:
    """Accuracy after restoration, with the fine-tuned model as 0 %."""
    models = _by_answerer(answers)
    sweeps: dict[tuple, dict[float, dict[str, Answers]]] = {}
    for key, sets in models.items():
        if key.percent is not None:
            kind = (key.run, key.strategy, key.region)
            sweeps.setdefault(kind, {0.0: models[Answerer(key.run)]})[key.percent] = sets
    rows = []
    for (run, strategy, region), sweep in sweeps.items():
        start = {name: score(given, levels)["accuracy"] for name, given in models[Answerer(run)].items()}
        for percent, sets in sorted(sweep.items()):
            head = {"run": run, "strategy": strategy, "region": region, "percent": percent}
            for name, given in sets.items():
                scored = score(given, levels)
                known_both = scored["accuracy"] is not None and start[name] is not None
                gain = scored["accuracy"] - start[name] if known_both else None
                rows.append({**head, "set": name, **scored, "gain": gain})
    return table(rows, RESTORED)
