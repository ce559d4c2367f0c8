"""What all sections of the configuration share: how a section behaves, the ranges of its values, and the seed."""

from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from knowshift.runtime.errors import shown

T = TypeVar("T")


def all_distinct(values: list[T]) -> list[T]:
    """Return `values`; raise a ValueError if one of them occurs twice."""
    if len({str(value) for value in values}) < len(values):
        raise ValueError(f"{values} names something twice")
    return values


def _restores_something(percent: float) -> float:
    """Return `percent`; raise a ValueError if it is so small that no model has a parameter for it."""
    if 0 < percent < SMALLEST_PERCENT:
        raise ValueError(f"{percent} % of no model's parameters is a parameter; write 0, or what is meant")
    return percent


LONGEST_NAME = 255  # bytes of the name of a file or a folder, as file systems take them


def possible_path(path: str) -> str:
    """Return `path`; raise a ValueError if a part of it is longer than the name of any file."""
    if any(len(part.encode()) > LONGEST_NAME for part in path.split("/")):
        raise ValueError(f"{shown(path[:60])}… has a name of more than {LONGEST_NAME} bytes; name another")
    return path


SMALLEST_PERCENT = 1e-9  # one parameter of a hundred billion
# Bounds that no experiment comes near: beyond them a number is a slip of the pen.
LARGEST_COUNT = 10**9
LARGEST_SEED = 2**63 - 1
Positive = Annotated[int, Field(gt=0, le=LARGEST_COUNT)]
NotNegative = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
# Forms of texts; `checking.FORMS` says what they are.
COMMIT = "^[0-9a-f]{40}$"
SHA256 = "^[0-9a-f]{64}$"
WORD = r"^\w+$"
# A path becomes part of Snakemake's patterns, of one-line messages and of command lines: it has no braces and no
# control characters, and does not begin like an option.
PathText = Annotated[
    str,
    Field(min_length=1, max_length=1000, pattern=r"^[^-{}\x00-\x1f\x7f][^{}\x00-\x1f\x7f]*$"),
    AfterValidator(possible_path),
]
Percent = Annotated[float, Field(ge=0, le=100), AfterValidator(_restores_something)]
Share = Annotated[float, Field(ge=0, le=1)]
Several = Annotated[list[T], Field(min_length=1), AfterValidator(all_distinct)]  # at least one item, and none twice


def _allows(annotation: Any, wanted: type) -> bool:
    """Tell whether a type, or one that it is made of, is `wanted`."""
    return annotation in (wanted, Any) or any(_allows(part, wanted) for part in get_args(annotation))


def _has_sections(annotation: Any) -> bool:
    """Tell whether a type is a section, or is made of some."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return True
    return any(map(_has_sections, get_args(annotation)))


def _is_broken(value: Any) -> bool:
    """Tell whether a text, or one inside nested lists and mappings, holds half of a character."""
    if isinstance(value, str):
        return not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return any(_is_broken(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(_is_broken, value))


class Section(BaseModel):
    """Settings that belong together, each declared once: type, default, allowed values and one sentence of help.

    The configuration is made of such sections. The scripts' command lines take their options from the same classes
    (`cli.command_line.CommandLine`), and so does the JSON schema.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _whole_characters(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse halves of characters (lone surrogates), which JSON and bytes that are no UTF-8 give."""
        within = _has_sections(cls.model_fields[info.field_name or ""].annotation)  # they look for themselves
        if not within and _is_broken(value):
            raise ValueError(f"{shown(value)} holds half of a character; write the character itself")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number is meant: Python would count them as 1 and 0."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        items = value if isinstance(value, list) else [value]
        if any(isinstance(item, bool) for item in items) and not _allows(annotation, bool):
            raise ValueError(f"{str(value).lower()} is neither a number nor a text; write what is meant")
        return value


class Seeded(Section):
    """The seed of an experiment."""

    seed: Seed = Field(default=1, description="Seed that every random choice of the experiment is derived from.")


class TrainingSetSize(Section):
    """The size of one training set, for the jobs that train on it or ask about it."""

    size: Positive | None = Field(
        default=None, description="Number of training facts, from the start of the order; null takes all of it."
    )
