"""What became of the facts of models that were fine-tuned elsewhere: kept, lost and learned, restored and not."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from knowshift.analysis.answer_matrix import Answerer, Panel
from knowshift.analysis.columns import known, table
from knowshift.analysis.knowledge_schemas import FATES
from knowshift.analysis.recommendation import chosen_restoration
from knowshift.analysis.study import BASE, TESTS, Condition, Study
from knowshift.evaluation.paired_answers import Fate, Proportion, fate_of


def tabulate_fates(study: Study, topics: np.ndarray) -> pa.Table:
    """Compare every model that was fine-tuned elsewhere with the pre-trained one, in the schema `FATES`.

    Each of its restored models is compared too, over all topics.

    Args:
        study: The study.
        topics: (F,) the topic of every fact of the mastery table.
    """
    rows = []
    for condition in (one for one in study.conditions if one.elsewhere):
        for panel in (study.panels[name] for name in TESTS if name in study.panels):
            rows += _of_condition(study, panel, condition, topics[panel.facts])
    return table(rows, FATES)


def _of_condition(study: Study, panel: Panel, condition: Condition, topics: np.ndarray) -> Iterator[dict]:
    """The rows of one model on one set."""
    before, chosen = study.before(condition), chosen_restoration(study, condition)
    head = {"data": condition.data, "set": panel.name, "asked_with": "pre-trained" if before == BASE else "few-shot"}
    (after,) = condition.answerers
    everywhere = np.full(panel.questions, True)
    yield head | {"chosen": False} | _columns(panel, before, after, everywhere)
    for topic in sorted(set(topics.tolist())):
        yield head | {"chosen": False, "topic": topic} | _columns(panel, before, after, topics == topic)
    for one in study.restorations:
        if one.condition == condition and one.percent:
            (restored,) = one.answerers
            named = {"strategy": one.strategy, "region": one.region, "percent": one.percent, "chosen": one == chosen}
            yield head | named | _columns(panel, before, restored, everywhere)


def _columns(panel: Panel, before: Answerer, after: Answerer, rows: np.ndarray) -> dict:
    """The columns that compare two models on some of the questions."""
    one, other = (panel.columns[key] for key in (before, after))
    right = panel.correct[rows]
    fate = fate_of(zip(right[:, one].tolist(), right[:, other].tolist(), strict=True))
    change, low, high = fate.change
    logprob = panel.logprob[rows].astype(np.float64)
    counts = {name: getattr(fate, name) for name in ("facts", "kept", "lost", "learned", "unknown")}
    return {
        **counts,
        **_shares(fate),
        "change": known(change),
        "change_low": known(low),
        "change_high": known(high),
        "p": fate.p_value,
        "logprob_before": float(logprob[:, one].mean()),
        "logprob_after": float(logprob[:, other].mean()),
    }


def _shares(fate: Fate) -> dict:
    """The columns of the shares of facts, with the ends of their intervals."""
    shares: dict[str, Proportion] = {
        "before": fate.before,
        "after": fate.after,
        "kept_share": fate.kept_of_known,
        "learned_share": fate.learned_of_unknown,
    }
    return {
        f"{name}{end}": known(getattr(share, key))
        for name, share in shares.items()
        for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
