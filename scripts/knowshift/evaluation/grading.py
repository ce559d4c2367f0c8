"""Which stored outputs are right: by every matching rule, so that no choice between them asks a model again."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from knowshift.facts.matching import ARTICLES, RULES, Synonyms, contains, words


def grade_output(output: str, names: Sequence[str]) -> dict[str, bool]:
    """Whether an output is right, by every rule.

    Args:
        output: what the model answered.
        names: the object and its other names.
    """
    return {rule: contains(output, names, rule) for rule in RULES} | {
        "exact": _bare(output) in {_bare(name) for name in names}
    }


def _bare(text: str) -> str:
    """The words of a text without an article before them; what has no words is compared as it stands."""
    folded = words(text)
    for article in ARTICLES:
        folded = folded.removeprefix(article)
    return folded or unicodedata.normalize("NFKC", text).strip()


@dataclass(frozen=True)
class Grader:
    """Decides which outcomes are right.

    Attributes:
        facts: fact id to a row of `MASTERY`.
        synonyms: other names of objects.
        rule: the matching rule that counts.
    """

    facts: Mapping[str, dict]
    synonyms: Synonyms
    rule: str

    def grade(self, outcomes: pa.Table) -> list[dict]:
        """One row per outcome: the columns of `ANSWERS` that are its own, and `correct` by the rule that counts."""
        rows = []
        for row in outcomes.select(["fact_id", "set", "output", "gold_logprob"]).to_pylist():
            fact = self.facts[row["fact_id"]]
            grades = grade_output(row["output"], self.synonyms.names(fact["object"], fact["aliases"]))
            rows.append({**row, "level": fact["level"], **grades, "correct": grades[self.rule]})
        return rows
