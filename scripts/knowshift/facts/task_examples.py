"""Held-out examples of a task, in a file of a user's own: what the model reads, and the answers that count."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from knowshift.canonical import canonical_json
from knowshift.facts.texts import problem_with_encoding, tidy
from knowshift.randomness import derive_seed
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.json_files import parse_json
from knowshift.runtime.user_files import read_text

Half = Literal["dev", "test"]
ROLES = ("system", "user", "assistant")
FORM = '{"prompt": "…", "expected": "…"} or {"messages": [{"role": "user", "content": "…"}], "expected": "…"}'


@dataclass(frozen=True)
class Example:
    """One example of a task.

    Attributes:
        line: its number in the file, from 1.
        asked: a text that the model goes on with, or a conversation up to where the model answers: pairs of role and
            content.
        expected: the answers that count, at least one.
    """

    line: int
    asked: str | tuple[tuple[str, str], ...]
    expected: tuple[str, ...]

    @property
    def characters(self) -> int:
        """How long what is asked is, without what a chat template adds."""
        texts = [self.asked] if isinstance(self.asked, str) else [content for _, content in self.asked]
        return sum(map(len, texts))

    def half(self, seed: int) -> Half:
        """The half that it belongs to, by a hash of what is asked.

        So it does not depend on other examples, and two that ask the same are in one half.

        Args:
            seed: the experiment's seed.
        """
        return "dev" if derive_seed(seed, "half of a task", canonical_json(self.asked)) % 2 else "test"


def read_examples(path: Path) -> list[Example]:
    """Read the examples of a task, a JSON object per line. Keys that say nothing here are ignored.

    A conversation may end with the answer of the assistant, as training data do; without `expected` it is that answer.

    Raises:
        KnowshiftError: the file is missing or empty, or a line is no such object; names the first one.
    """
    examples = []
    for number, line in enumerate(read_text(path, " does not exist; it should hold the examples").split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            examples.append(_example(parse_json(line, where, f"it must hold {FORM}"), number, where))
    if not examples:
        raise KnowshiftError(f"{path} is empty; it should hold the examples, each {FORM}")
    return examples


def check_halves(examples: Sequence[Example], seed: int) -> None:
    """Check that there are examples in both halves.

    Raises:
        KnowshiftError: all are in one half.
    """
    halves = {example.half(seed) for example in examples}
    if len(halves) < 2:
        raise KnowshiftError(
            f"all of its {len(examples)} examples fall into the half {halves.pop()}, and restored models are chosen on"
            " one half and reported on the other; add examples"
        )


def _example(row: Any, line: int, where: str) -> Example:
    """Make an example of what a line holds."""
    if not isinstance(row, dict) or ("prompt" in row) == ("messages" in row):
        raise KnowshiftError(f"{where}: must be {FORM}")
    expected = row.get("expected")
    if "prompt" in row:
        asked = row["prompt"]
        if not isinstance(asked, str) or not tidy(asked):
            raise KnowshiftError(f"{where}: prompt must be a text that is not blank")
    else:
        said = _conversation(row["messages"], where)
        if said[-1][0] == "assistant":
            *said, (_, answer) = said
            expected = answer if expected is None else expected
        if not said or said[-1][0] != "user":
            raise KnowshiftError(f"{where}: messages must end with one of the user, or with the answer to it")
        asked = tuple(said)
    answers = [expected] if isinstance(expected, str) else expected
    if not isinstance(answers, list) or not answers or not all(isinstance(one, str) and tidy(one) for one in answers):
        raise KnowshiftError(f"{where}: expected must be a text that is not blank, or a list of such texts")
    texts = [asked] if isinstance(asked, str) else [content for _, content in asked]
    for text in (*texts, *answers):
        if problem := problem_with_encoding(text):
            raise KnowshiftError(f"{where}: {problem}")
    return Example(line, asked, tuple(answers))


def _conversation(messages: Any, where: str) -> list[tuple[str, str]]:
    """Check the messages of a conversation, and return them as pairs of role and content."""
    said = []
    for message in messages if isinstance(messages, list) else ():
        role, content = (message.get(key) if isinstance(message, dict) else None for key in ("role", "content"))
        if role not in ROLES or not isinstance(content, str) or not content.strip():
            raise KnowshiftError(
                f"{where}: each of the messages must have a role ({', '.join(ROLES)}) and content, a text"
            )
        said.append((role, content))
    if not said:
        raise KnowshiftError(f"{where}: messages must be a list of messages; each line must be {FORM}")
    return said
