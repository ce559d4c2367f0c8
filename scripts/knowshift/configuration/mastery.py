"""The section `mastery`: how completions are sampled, and where mastery levels end (paper, section 3.2)."""

from typing import Annotated

from pydantic import Field, model_validator

from knowshift.allowed_values import LevelsFrom
from knowshift.configuration.generating import Generating, TokenLimit
from knowshift.configuration.section import Section


class Probing(Generating):
    """How completions of facts are sampled."""

    templates: Annotated[int, Field(gt=0, le=10_000)] = Field(
        default=21, description="Number of completion templates per topic that are used, from the first."
    )
    samples: Annotated[int, Field(gt=0, le=100_000)] = Field(
        default=10, description="Number of completions sampled per template."
    )
    temperature: float = Field(default=0.7, ge=0.001, le=1000, description="Sampling temperature.")
    max_new_tokens: TokenLimit = Field(default=32, description="Largest number of tokens of a completion.")


class LevelBoundaries(Section):
    """Where mastery levels end."""

    boundaries: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=3, max_length=3)] = Field(
        default=[0.25, 0.5, 0.75],
        description="Mastery, the share of completions with the object (0 to 1), at which levels 1, 2 and 3 end.",
    )

    @model_validator(mode="after")
    def _rising(self) -> "LevelBoundaries":
        if sorted(set(self.boundaries)) != self.boundaries:
            raise ValueError(f"boundaries {self.boundaries} must rise")
        return self


class LevelSource(Section):
    """Which completions levels are counted from."""

    levels_from: LevelsFrom = Field(
        default="all",
        description="Completions that levels are from: all of them; or first_half, where training sets are drawn by "
        "the first half, and questions and analyses go by the second, so that errors of the two are independent.",
    )


class Mastery(Probing, LevelBoundaries, LevelSource):
    """How mastery is measured and divided into levels."""

    @model_validator(mode="after")
    def _has_halves(self) -> "Mastery":
        if self.levels_from == "first_half" and self.templates * self.samples < 2:
            raise ValueError("levels_from: first_half needs two completions per fact; raise samples or templates")
        return self
