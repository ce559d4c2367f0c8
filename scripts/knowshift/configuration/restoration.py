"""The sections `restoration` and `exports`: which part of an update is undone (paper, section 4)."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from knowshift.allowed_values import STRATEGY_TRAITS, Dtype, Strategy
from knowshift.configuration.finetuning import METHOD, Data
from knowshift.configuration.models import MODEL_NAME, TUNED
from knowshift.configuration.section import Percent, Positive, Section, Seed, Several, all_distinct
from knowshift.runtime.errors import KnowshiftError, shown
from knowshift.weights.regions import LAYERS, LONGEST_PATTERN, REGIONS, check_pattern, layers_of

REGION_NAME = r"[A-Za-z]\w{0,63}"  # no hyphen: it separates the parts of file names
LONGEST_REGION = 64  # characters, because it is part of names of files


def _check_region(value: Any) -> Any:
    """Check a region: a name, or a list of layers, which may be one integer.

    Whether a name is known is checked later, against `named_regions`.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**4 else value
    if isinstance(text, str):
        if not re.fullmatch(rf"{REGION_NAME}|{LAYERS}", text) or len(text) > LONGEST_REGION:
            raise ValueError(
                f"{shown(text)} is no region: {', '.join(REGIONS)}, layers such as 0-3 or 0,5,7-9, or one of"
                " named_regions"
            )
        try:
            layers_of(text)
        except KnowshiftError as error:
            raise ValueError(str(error)) from None
    return text


def _check_pattern(value: str) -> str:
    """Check the regular expression of a named region."""
    if value in REGIONS or re.fullmatch(LAYERS, value):
        raise ValueError(f"{value!r} is a region already; name it where it is used")
    try:
        check_pattern(value)
    except KnowshiftError as error:
        raise ValueError(str(error)) from None
    return value


Region = Annotated[str, BeforeValidator(_check_region, json_schema_input_type=str | int)]
RegionPattern = Annotated[str, Field(min_length=1), AfterValidator(_check_pattern)]


def _check_choice(value: str) -> str:
    """Check a region of a command line, which may be a regular expression."""
    try:
        if layers_of(value) is None and value not in REGIONS:
            check_pattern(value)
    except KnowshiftError as error:
        raise ValueError(str(error)) from None
    return value


class RegionChoice(Section):
    """Which parameters are ranked together.

    The configuration allows names and lists of layers (`NamedRegion`). A script also takes the regular expression that
    a named region stands for.
    """

    region: Annotated[str, AfterValidator(_check_choice)] = Field(
        default="transformer",
        min_length=1,
        max_length=LONGEST_PATTERN,
        description=f"Parameters whose changes are ranked together: {', '.join(REGIONS)}, a list of layers such as "
        f"0-3, or "
        "a regular expression over tensor names (in the configuration, its name in named_regions).",
    )


def _strategies() -> str:
    """Say in a sentence what each strategy does."""
    selecting = [f"{name} ({one.undoes})" for name, one in STRATEGY_TRAITS.items() if one.selects]
    computing = [f"{name} ({one.undoes})" for name, one in STRATEGY_TRAITS.items() if not one.selects]
    return f"What is undone. Set parameters back: {', '.join(selecting)}. Compute new values: {', '.join(computing)}."


class StrategyChoice(Section):
    """Which part of an update is undone first, or how it is undone."""

    strategy: Strategy = Field(default="top", description=_strategies())


class Selecting(RegionChoice, StrategyChoice):
    """What is undone, and in which region."""


class RestoredShare(Section):
    """How much of a region is restored, as one share."""

    percent: Percent = Field(
        description="How much of the region's update to undo, in percent of its parameters (interpolate: of every "
        "change; low_rank: of its squared norm); 0 is the fine-tuned model, 100 the model before training."
    )


class RestoredShares(Section):
    """How much of a region is restored, as several shares."""

    percents: Several[Percent] = Field(
        default=[1, 3, 5, 10, 20, 40, 60],
        description="How much of the region's update to undo, each in percent of its parameters (interpolate: of every "
        "change; low_rank: of its squared norm), 0 to 100.",
    )


class StrategyShares(RestoredShares, StrategyChoice):
    """Shares that are undone with one strategy."""


class AskedShares(RestoredShares, Selecting):
    """The restored models of one job: shares of a region, with one strategy or with several."""

    strategies: list[StrategyShares] = Field(
        default=[],
        description="Several strategies with their shares, in place of --strategy and --percents, such as "
        '[{"strategy": "top", "percents": [20, 60]}, {"strategy": "interpolate", "percents": [50]}].',
    )

    @model_validator(mode="after")
    def _check_one_form(self) -> "AskedShares":
        if self.strategies and {"strategy", "percents"} & self.model_fields_set:
            raise ValueError("give either --strategies, or --strategy and --percents")
        all_distinct([entry.strategy for entry in self.strategies])
        return self

    @property
    def percents_of(self) -> dict[str, list[float]]:
        """The shares of each strategy, rising and each of them once, in the order in which strategies are given."""
        given = self.strategies or [self]
        return {entry.strategy: sorted({*entry.percents}) for entry in given}


class NamedRegion(RegionChoice):
    """A region as the configuration may give it."""

    _check = field_validator("region", mode="before", json_schema_input_type=str | int)(_check_region)


GRID_CHOICES = ("methods", "data", "sizes", "seeds")  # keys of an entry that choose among the cells of the grid


class Restoration(RestoredShares, NamedRegion, Selecting):
    """One entry under `restoration`: the fine-tuned models it applies to, and what is restored in them."""

    models: list[str] | None = Field(default=None, description="Names under models; null takes all of them.")
    methods: list[str] | None = Field(
        default=None, description="Methods among finetuning.methods; null takes all of them."
    )
    data: list[Data] | None = Field(
        default=None, description="Kinds of data among finetuning.data; null takes all of them."
    )
    sizes: list[Positive | Literal["all"]] | None = Field(
        default=None, description="Training set sizes among finetuning.sizes; null takes all of them."
    )
    seeds: list[Seed] | None = Field(default=None, description="Seeds among finetuning.seeds; null takes all of them.")
    tuned: list[str] | None = Field(
        default=None,
        description="Names under tuned of the models; null takes all of them, or none if methods, data, sizes or seeds "
        "choose. An entry that names some here and chooses by none of those takes no model that is trained here.",
    )
    more_dtypes: list[Dtype] = Field(
        default=[],
        description="Number formats that these restored models, and the same ones with nothing restored, answer in "
        "beside the one of evaluation: an arm of its own, which no claim reads.",
    )

    def takes_size(self, size: int | str) -> bool:
        """Tell whether the strategy can work on a size: one that compares seeds cannot on `all`, which has one."""
        return size != "all" or not STRATEGY_TRAITS[self.strategy].other_seeds

    @property
    def takes_elsewhere(self) -> bool:
        """Whether the strategy can work on models that were fine-tuned elsewhere, of which there are no other seeds."""
        return not STRATEGY_TRAITS[self.strategy].other_seeds


class Export(RestoredShare, NamedRegion, Selecting):
    """One entry under `exports`: a restored model that is written out."""

    model: str = Field(description="Name of the model under models.")
    run: str = Field(
        pattern=rf"^({METHOD}-(level[0-4]|mixed)-([1-9][0-9]{{0,9}}|all)-s(0|[1-9][0-9]{{0,18}})"
        rf"|{TUNED}-{MODEL_NAME})$",
        description="Name of the run, METHOD-DATA-SIZE-sSEED such as full-mixed-120-s1, or tuned-NAME.",
    )
