"""The check-up of one fine-tuned model beside its base: questions for both, and the text that says the result."""

import hashlib
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from knowshift.evaluation.paired_answers import Fate, Proportion, fate_of, outcome
from knowshift.evaluation.schemas import CHECK_UP
from knowshift.randomness import derive_seed
from knowshift.runtime.errors import KnowshiftError

SHOWN = 5  # facts of a kind that are printed in full
_WIDTH = 60  # characters of an answer that are printed


def split_examples(rows: Sequence[dict[str, Any]], count: int, seed: int, path: Path) -> tuple[list[dict], list[dict]]:
    """Draw the questions that stand as answered examples before the others, which are asked.

    Args:
        rows: questions with their answers.
        count: number of examples; they are drawn by a seeded hash of their text, so that their order is no matter.
        seed: the seed.
        path: the file of the questions, for messages.

    Returns:
        The examples, and the rows that are asked. A question that stands among the examples is not asked.

    Raises:
        KnowshiftError: nothing would be left to ask.
    """

    def rank(row: dict[str, Any]) -> bytes:
        return hashlib.blake2b(str(derive_seed(seed, "example", row["question"])).encode()).digest()

    examples, shown = [], set()
    for row in sorted(rows, key=rank):
        if len(examples) < count and row["question"] not in shown:
            examples.append(row)
            shown.add(row["question"])
    asked = [row for row in rows if row["question"] not in shown]
    if not asked:
        raise KnowshiftError(f"{path} holds {len(rows)} questions, all of them examples; set --few-shot below {count}")
    return examples, asked


def pair_answers(rows: Sequence[dict[str, Any]], base: pa.Table, tuned: pa.Table, rule: str) -> pa.Table:
    """Put the graded answers of both models side by side, in the schema `CHECK_UP`.

    Args:
        rows: N questions with their answers, and a topic where they have one.
        base: the base's N answers, in the schema `GRADED_OUTCOMES`.
        tuned: the fine-tuned model's.
        rule: the column that says whether an answer is right.
    """
    right = [table[rule].to_pylist() for table in (base, tuned)]
    topics = [row.get("topic") for row in rows]
    columns = {
        "question": [row["question"] for row in rows],
        "topic": [None if topic is None else str(topic) for topic in topics],
        "answers": [row["answers"] for row in rows],
        "base_output": base["output"],
        "tuned_output": tuned["output"],
        "base_correct": right[0],
        "tuned_correct": right[1],
        "base_logprob": base["gold_logprob"],
        "tuned_logprob": tuned["gold_logprob"],
        "outcome": [outcome(*pair) for pair in zip(*right, strict=True)],
    }
    return pa.table(columns).select(CHECK_UP.names).cast(CHECK_UP)


@dataclass(frozen=True)
class Report:
    """The result of a check-up.

    Attributes:
        answers: in the schema `CHECK_UP`.
        asked: how each model was asked, by `base` and `tuned`: its folder and its prompt, in words.
        notes: sentences about what the reader has to know of the two models.
    """

    answers: pa.Table
    asked: Mapping[str, tuple[str, str]]
    notes: Sequence[str] = ()

    @property
    def fate(self) -> Fate:
        """What became of all facts."""
        return self._fate_of(self.answers)

    @property
    def topics(self) -> dict[str, Fate]:
        """What became of the facts of each topic; empty if no question names one."""
        names = sorted({topic for topic in self.answers["topic"].to_pylist() if topic is not None})
        column = self.answers["topic"].to_pylist()
        return {
            name: self._fate_of(self.answers.filter(pa.array([topic == name for topic in column]))) for name in names
        }

    @staticmethod
    def _fate_of(answers: pa.Table) -> Fate:
        columns = (answers[name].to_pylist() for name in ("base_correct", "tuned_correct"))
        return fate_of(zip(*columns, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "models": {side: {"folder": folder, "prompt": prompt} for side, (folder, prompt) in self.asked.items()},
            "notes": list(self.notes),
            "all": self.fate.as_dict(),
            "topics": {name: fate.as_dict() for name, fate in self.topics.items()},
            "answers": self.answers.to_pylist(),
        }

    def text(self) -> str:
        """Write the result for a reader at a terminal."""
        fate = self.fate
        lines = [f"{fate.facts} questions. Brackets hold 95 % intervals.", ""]
        for side, right in (("base", fate.before), ("tuned", fate.after)):
            folder, prompt = self.asked[side]
            lines += [f"{side:<6} {_share(right)}   {folder}, asked with {prompt}"]
        value, low, high = (100 * number for number in fate.change)
        lines += [f"change {value:+5.1f} points [{low:+.1f}, {high:+.1f}], p = {fate.p_value:.2g}", ""]
        known, other = fate.kept + fate.lost, fate.learned + fate.unknown
        lines += [
            f"kept    {_share(fate.kept_of_known)}   of the {known} facts that the base knows",
            f"lost    {_share(fate.lost_of_known)}",
            f"learned {_share(fate.learned_of_unknown)}   of the {other} facts that it does not",
        ]
        topics = self.topics
        if topics:
            wide = max(map(len, topics))
            lines += ["", f"{'topic':<{wide}}  facts  lost of known           learned of unknown"]
            lines += [
                f"{name:<{wide}}  {fate.facts:>5}  {_short(fate.lost_of_known)}  {_short(fate.learned_of_unknown)}"
                for name, fate in topics.items()
            ]
        for kind in ("lost", "learned"):
            lines += self._examples(kind)
        lines += ["", *[line for note in self.notes for line in textwrap.wrap(note, 100)]]
        return "\n".join(lines).rstrip() + "\n"

    def _examples(self, kind: str) -> list[str]:
        """Show some facts of a kind with both answers."""
        rows = [row for row in self.answers.to_pylist() if row["outcome"] == kind]
        lines = ["", f"{kind} ({min(SHOWN, len(rows))} of {len(rows)}):"] if rows else []
        for row in rows[:SHOWN]:
            lines += [
                f"  {row['question']}  [{row['answers'][0]}]",
                f"    base:  {_cut(row['base_output'])}",
                f"    tuned: {_cut(row['tuned_output'])}",
            ]
        return lines


def _share(share: Proportion) -> str:
    """A share with its count and interval, in a column."""
    if not share.of:
        return f"{share.count:>5}                        "
    return f"{share.count:>5}   {100 * share.value:5.1f} % [{100 * share.low:5.1f}, {100 * share.high:5.1f}]"


def _short(share: Proportion) -> str:
    """A share with its counts and interval, in a narrow column."""
    if not share.of:
        return f"{'none':<22}"
    return f"{share.count}/{share.of} [{100 * share.low:.0f}, {100 * share.high:.0f}] %".ljust(22)


def _cut(text: str) -> str:
    """A text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
