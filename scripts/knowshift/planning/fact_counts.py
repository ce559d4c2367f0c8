"""Counts the facts of an experiment by topic, mastery level and cell, as far as they are known before it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from knowshift.finetuning.grid import AnyCell, TunedCell
from knowshift.finetuning.orders import KNOWN_LEVELS, data_levels
from knowshift.finetuning.replay import replayed_count
from knowshift.mastery.schemas import LEVELS

CHARACTERS_PER_TOKEN = 4  # about, in English


@dataclass(frozen=True)
class TopicSize:
    """How many facts a topic has, and how long their texts are.

    Attributes:
        domain: in_domain or out_of_domain.
        facts: number of probed facts by split.
        drawable: number of train facts that training sets may draw.
        completion: mean tokens of a completion template with its subject.
        question: mean tokens of a question in its prompt.
        answer: mean tokens of an answer.
    """

    domain: str
    facts: Mapping[str, int]
    drawable: int
    completion: float
    question: float
    answer: float


class FactCounts:
    """The facts that one model is trained on and asked.

    Args:
        topics: size of every topic by name.
        levels: facts per mastery level for each set of facts (drawable, dev, test, dev_ood, test_ood) whose levels are
            known for this model. Facts of other sets are taken to be spread evenly over the levels.
    """

    def __init__(self, topics: Mapping[str, TopicSize], levels: Mapping[str, Sequence[float]]) -> None:
        self._topics, self._levels = list(topics.values()), levels

    @property
    def levels_known(self) -> bool:
        """Whether it is known how many facts of each level training sets can draw."""
        return "drawable" in self._levels

    def probed(self) -> int:
        """Count the facts of all topics and splits that the model is probed with."""
        return sum(sum(topic.facts.values()) for topic in self._topics)

    def probed_tokens(self) -> float:
        """Count the tokens that one completion template per probed fact takes."""
        return sum(sum(topic.facts.values()) * topic.completion for topic in self._topics)

    def train(self) -> int:
        """Count the in-domain train facts, those included that training sets may not draw."""
        return sum(topic.facts["train"] for topic in self._in("in_domain"))

    def per_level(self, facts: str) -> Sequence[float]:
        """Count the facts of a set at each mastery level.

        Args:
            facts: drawable, or the name of a question set (dev, test, dev_ood, test_ood).
        """
        if facts in self._levels:
            return self._levels[facts]
        if facts == "drawable":
            total = sum(topic.drawable for topic in self._in("in_domain"))
        else:
            split = facts.removesuffix("_ood")
            total = sum(topic.facts[split] for topic in self._in(domain_of(facts)))
        return [total / len(LEVELS)] * len(LEVELS)

    def of_cell(self, cell: AnyCell) -> float:
        """Count the training facts of a cell; 0 if it is infeasible, which shows only once levels are known.

        It is 0 for a cell that was fine-tuned elsewhere too: of what it was trained on nothing is asked here.
        """
        if isinstance(cell, TunedCell):
            return 0
        available = self._drawable(data_levels(cell.data))
        if isinstance(cell.size, str):  # all
            return available
        return cell.size if available >= cell.size or not self.levels_known else 0

    def examples(self, cell: AnyCell, replay: float) -> float:
        """Count the examples of one epoch of a cell's training: its training facts, and those that are trained along.

        Args:
            cell: the cell.
            replay: known facts per training fact.
        """
        taught = self.of_cell(cell)
        if not replay or isinstance(cell, TunedCell):
            return taught
        level_of_cell = data_levels(cell.data)
        share = min(1, taught / max(1, self._drawable(level_of_cell)))  # of the facts of each of its levels
        others = sum(
            count * (1 - share if level_of_cell is None or level in level_of_cell else 1)
            for level, count in enumerate(self.per_level("drawable"))
            if level in KNOWN_LEVELS
        )
        return taught + min(replayed_count(replay, taught), others)

    def _drawable(self, levels: Sequence[int] | None) -> float:
        """Count the facts of some levels, or of all, that training sets may draw."""
        return sum(count for level, count in enumerate(self.per_level("drawable")) if levels is None or level in levels)

    def mean_tokens(self, text: Literal["question", "answer"], domain: str) -> float:
        """The mean tokens of a kind of text over the facts of a domain; 0 if it has no facts."""
        pairs = [(getattr(topic, text), sum(topic.facts.values())) for topic in self._in(domain)]
        total = sum(count for _, count in pairs)
        return sum(tokens * count for tokens, count in pairs) / total if total else 0.0

    def tokens_asked(self, domain: str) -> float:
        """The mean tokens of a question in its prompt, with its answer."""
        return self.mean_tokens("question", domain) + self.mean_tokens("answer", domain)

    def _in(self, domain: str) -> list[TopicSize]:
        return [topic for topic in self._topics if topic.domain == domain]


def domain_of(question_set: str) -> str:
    """The domain that a question set asks about: `test_ood` asks about out_of_domain topics."""
    return "out_of_domain" if question_set.endswith("_ood") else "in_domain"
