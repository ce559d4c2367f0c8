"""The section `facts`: where the facts come from, and when a text counts as containing an object."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from knowshift.allowed_values import Matching, Writing
from knowshift.configuration.section import SHA256, WORD, PathText, Positive, Section, Several, Share, all_distinct

ENTITYQUESTIONS = "https://nlp.cs.princeton.edu/projects/entity-questions/dataset.zip"
ENTITYQUESTIONS_CONTENTS = "3764f132af26ac073a37f3aa00620775c708844f34a29cc2257c89439dae2eff"
Topic = Annotated[str, Field(pattern=WORD, max_length=64)]  # it names files


def _without_credentials(location: str) -> str:
    """Refuse a URL with a user name or a password, because it would be kept with the results."""
    if "://" in location and (parts := urlsplit(location)).username is not None:
        raise ValueError(
            "leave the user name and the password out of the URL, because it is kept with the results; write them into"
            f" ~/.netrc for {parts.hostname}, where they are looked up"
        )
    return location


Location = Annotated[PathText, AfterValidator(_without_credentials)]


class SplitShares(Section):
    """How the rows of a table that name no split are divided."""

    train: Share = Field(default=0.8, description="Share of a topic's facts that go into train, 0 to 1.")
    dev: Share = Field(default=0.1, description="Share of a topic's facts that go into dev, 0 to 1.")
    test: Share = Field(default=0.1, description="Share of a topic's facts that go into test, 0 to 1.")

    @model_validator(mode="after")
    def _add_up_to_one(self) -> "SplitShares":
        if abs(self.train + self.dev + self.test - 1) > 1e-9:
            raise ValueError(f"the shares of train, dev and test add up to {self.train + self.dev + self.test}, not 1")
        return self


class Writings(Section):
    """Which ways to write one name count as one."""

    writings: Annotated[list[Writing], AfterValidator(all_distinct)] = Field(
        default=[],
        description="Ways to write one name that count as one: accents (São Paulo, Sao Paulo), abbreviations (U.S.A., "
        "USA), thousands (1,234, 1234), korean_particles (서울은, 서울). None of them by default.",
    )


class MatchingRule(Writings):
    """When a text counts as containing an object."""

    matching: Matching = Field(
        default="whole_words",
        description="How an object is searched for in a text: as whole words, or as a substring, which is the paper's "
        "rule.",
    )


class Archive(Section):
    """What an archive of raw questions must contain."""

    contents_sha256: Annotated[str, Field(pattern=SHA256)] | None = Field(
        default=ENTITYQUESTIONS_CONTENTS,
        description="Digest that the files in the archive must have, 64 hexadecimal digits (by default "
        "EntityQuestions'); null accepts any.",
    )


class BuildingRules(Section):
    """How rows of a source become facts."""

    on_bad_rows: Literal["stop", "drop"] = Field(
        default="stop",
        description="What happens at rows that cannot be used: stop with an error, or drop and count them.",
    )
    split_shares: SplitShares = Field(
        default=SplitShares(),
        description="Shares of a table's facts per split, for rows that name no split; a hash of the row decides.",
    )


class Facts(BuildingRules, Archive, MatchingRule):
    """Where the facts come from, and how they are used."""

    source: Literal["folder", "archive", "table"] = Field(
        default="folder",
        description="Form of the facts: a folder of question files {train,dev,test}/TOPIC.{split}.json; an archive "
        "(zip) of such files, which is downloaded; or a table (CSV, TSV, JSON Lines or Parquet) with the columns "
        "topic, subject, object.",
    )
    path: Location | None = Field(
        default=None,
        description="Path of the folder or table, or URL or path of the archive; null is allowed for an archive and "
        "takes EntityQuestions.",
    )
    templates: PathText = Field(
        default="resources/templates",
        description="Folder with a TOPIC.yaml of question and completion templates per topic.",
    )
    prompt: PathText = Field(
        default="resources/prompt.yaml",
        description="File with the prompt that wraps a question, in training and evaluation.",
    )
    synonyms: list[PathText] = Field(default=[], description="CSV files with other names of objects.")
    in_domain: Several[Topic] = Field(description="Topics that training sets are drawn from.")
    out_of_domain: list[Topic] = Field(default=[], description="Topics that are evaluated and never trained on.")
    train_limit: Positive | None = Field(
        default=None, description="Largest number of train facts per topic, chosen by hash; null uses all."
    )
    dev_limit: Positive | None = Field(
        default=None, description="Largest number of dev facts per topic, chosen by hash; null uses all."
    )
    test_limit: Positive | None = Field(
        default=None, description="Largest number of test facts per topic, chosen by hash; null uses all."
    )

    @model_validator(mode="after")
    def _one_domain_per_topic(self) -> "Facts":
        if both := sorted(set(self.in_domain) & set(self.out_of_domain)):
            raise ValueError(f"topic {both[0]} is both in_domain and out_of_domain")
        all_distinct(self.out_of_domain)
        if self.path is None and self.source != "archive":
            raise ValueError(f"name the {self.source} of facts under path")
        return self

    def limit(self, split: str) -> int | None:
        """Return the largest number of facts of a split that each topic gives; None for all.

        `Configuration.facts_limit` tells where nothing is trained.
        """
        return {"train": self.train_limit, "dev": self.dev_limit, "test": self.test_limit}[split]
