"""Grading of stored answers, by every matching rule, so that choosing another rule needs no new run of a model."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from knowshift.allowed_values import Writing
from knowshift.evaluation.schemas import GIVEN
from knowshift.facts.matching import ARTICLES, RULES, Synonyms, contains, words
from knowshift.facts.writings import with_particles


def grade_output(output: str, names: Sequence[str], writings: Sequence[Writing] = ()) -> dict[str, bool]:
    """Grade an answer by every rule.

    Args:
        output: the model's answer.
        names: the right object and its other names.
        writings: which ways to write one name count as one.

    Returns:
        Whether the answer is right, by the name of the rule: those of `RULES`, and `exact`, by which the answer must be
        a name and nothing else.
    """
    said, wanted = _bare(output, writings), {_bare(name, writings) for name in names}
    exact = said in wanted
    if not exact and "korean_particles" in writings:
        exact = any(pattern.fullmatch(said) for name in wanted if (pattern := with_particles(name)))
    return {rule: contains(output, names, rule, writings) for rule in RULES} | {"exact": exact}


def _bare(text: str, writings: Sequence[Writing]) -> str:
    """Reduce a text to its words without a leading article; a text without words is only normalized and stripped."""
    folded = words(text, writings)
    for article in ARTICLES:
        folded = folded.removeprefix(article)
    return folded or unicodedata.normalize("NFKC", text).strip()


@dataclass(frozen=True)
class Grader:
    """Grades tables of answers.

    Attributes:
        facts: rows of the table `MASTERY`, as dictionaries, by fact id.
        synonyms: other names of objects.
        rule: the matching rule that decides whether an answer is correct.
        writings: which ways to write one name count as one.
    """

    facts: Mapping[str, dict]
    synonyms: Synonyms
    rule: str
    writings: Sequence[Writing] = ()

    def grade(self, outcomes: pa.Table) -> list[dict]:
        """Grade answers.

        Args:
            outcomes: N rows in the schema `OUTCOMES`.

        Returns:
            N rows as dictionaries: the columns of `ANSWERS` except run, strategy, region and percent; and `correct`,
            the grade by `rule`.
        """
        rows = []
        for row in outcomes.select(
            ["fact_id", "set", "output", "gold_logprob", *(field.name for field in GIVEN)]
        ).to_pylist():
            fact = self.facts[row["fact_id"]]
            names = self.synonyms.names(fact["object"], fact["aliases"])
            grades = grade_output(row["output"], names, self.writings)
            rows.append({**row, "level": fact["level"], **grades, "correct": grades[self.rule]})
        return rows
