"""The configuration of an experiment: all sections together, and what must hold between them.

Each section is declared in a module of its own; `checking.py` turns the YAML of an experiment into these settings. The
JSON schema that editors use follows from them (`make schema`):

    python -m knowshift.configuration.sections > schemas/config.schema.json
"""

import json
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from knowshift.allowed_values import STRATEGY_TRAITS, Dtype
from knowshift.configuration.evaluation import Divergence, Evaluation
from knowshift.configuration.facts import ENTITYQUESTIONS, Facts
from knowshift.configuration.finetuning import GRID_KEYS, METHOD, Finetuning
from knowshift.configuration.mastery import Mastery
from knowshift.configuration.models import MODEL_NAME, TUNED, DirectorySource, GgufSource, Model
from knowshift.configuration.restoration import (
    GRID_CHOICES,
    REGION_NAME,
    Export,
    Region,
    RegionPattern,
    Restoration,
)
from knowshift.configuration.section import Seeded, Several, possible_path
from knowshift.configuration.tasks import QuestionTask
from knowshift.weights.regions import REGIONS

# The rules take these from here, beside the configuration itself.
__all__ = ["ENTITYQUESTIONS", "GRID_KEYS", "METHOD", "MODEL_NAME", "REGION_NAME", "TUNED", "Configuration"]
__all__ += ["DirectorySource", "GgufSource", "json_schema"]

TRAIN_FACTS = 20  # train facts per topic, at least, where nothing is trained
# Folders that lie beside those of the models in the results, so that no model may have their names.
RESERVED = {"raw", "downloads", "facts", "tables", "figures", "logs", "benchmarks"}


class Configuration(Seeded):
    """All settings of an experiment that change its results."""

    allow_large: bool = Field(
        default=False,
        description="Consent to an experiment of an unusual size (more than 100,000 fine-tuned and restored models, or "
        "1,000,000 sampled tokens per fact; the message names the numbers). It changes no result.",
    )
    results: Annotated[str, AfterValidator(possible_path)] = Field(
        default="results",
        min_length=1,
        max_length=1000,
        pattern=r"^([^-{}\x00-\x1f\x7f][^{}\x00-\x1f\x7f]*)?[^-{}\x00-\x1f\x7f/]$",
        description="Folder that all results are written to.",
    )
    models: dict[Annotated[str, Field(pattern=f"^{MODEL_NAME}$")], Model] = Field(
        min_length=1, description="Models by name; the name is that of the model's folder under results."
    )
    report_on: Several[str] | None = Field(
        default=None,
        description="Models that the report, its tables and the exports are about, by name; null takes all. It is for "
        "the models that finished, where another one cannot: the page says which models it leaves out.",
    )
    facts: Facts = Field(description="Where the facts come from, and how they are used.")
    mastery: Mastery = Field(default=Mastery(), description="How mastery is measured before training.")
    finetuning: Finetuning | None = Field(
        default=None,
        description="How models are fine-tuned, and on which training sets; null trains none, for an experiment on "
        "models that were fine-tuned elsewhere (models.NAME.tuned).",
    )
    evaluation: Evaluation = Field(default=Evaluation(), description="What models are asked, and how they answer.")
    divergence: Divergence = Field(
        default=Divergence(), description="How next-token distributions before and after fine-tuning are compared."
    )
    named_regions: dict[Annotated[str, Field(pattern=f"^{REGION_NAME}$")], RegionPattern] = Field(
        default={},
        description="Further regions: a name, and a regular expression that is searched for in tensor names.",
    )
    regions: Several[Region] = Field(
        default=["transformer"], description="Regions whose relative changes are measured in every fine-tuned model."
    )
    restoration: list[Restoration] = Field(
        default=[], description="Which part of which updates is undone; every restored model is evaluated."
    )
    tasks: list[QuestionTask] = Field(
        default=[],
        description="What models have to go on doing: every model is asked the held-out examples of each task, before "
        "fine-tuning, after it and restored, and a restored model is recommended only if it keeps them.",
    )
    exports: list[Export] = Field(default=[], description="Restored models that are written out as model directories.")

    @model_validator(mode="after")
    def _check_names(self) -> "Configuration":
        if odd := sorted(set(self.models) & RESERVED):
            raise ValueError(f"models.{odd[0]}: this name is taken by another folder of the results")
        if odd := [name for name in self.report_on or () if name not in self.models]:
            raise ValueError(f"report_on: {odd[0]} is not among models, which has {list(self.models)}")
        if self.finetuning is None and not any(model.tuned for model in self.models.values()):
            raise ValueError(
                "finetuning is missing: say there how models are fine-tuned, or name models that were fine-tuned"
                " elsewhere under models.NAME.tuned"
            )
        names = [task.name for task in self.tasks]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"tasks: {twice[0]} is the name of two tasks; give one of them another name")
        for number, entry in enumerate(self.restoration):
            if (first := self.restoration.index(entry)) < number:
                raise ValueError(f"restoration.{number}: is the same as restoration.{first}; leave one of them")
            self._check_choices(number, entry)
            if STRATEGY_TRAITS[entry.strategy].other_seeds:
                self._check_seeds(
                    f"restoration.{number}", entry.strategy, "sizes", entry.sizes or (), entry.tuned or ()
                )
            for model in entry.models or self.models:
                if self.answering_dtype(model) != "float32" and "float32" in entry.more_dtypes:
                    raise ValueError(
                        f"restoration.{number}.more_dtypes: float32 is wider than the {self.answering_dtype(model)} of"
                        " evaluation, for which jobs get their memory: evaluate in float32, and add the narrower one"
                    )
        if taken := sorted(set(self.named_regions) & set(REGIONS)):
            raise ValueError(f"named_regions.{taken[0]}: this name is that of a region already")
        used = {f"regions.{number}": region for number, region in enumerate(self.regions)}
        for key in ("restoration", "exports"):
            used |= {f"{key}.{number}.region": entry.region for number, entry in enumerate(getattr(self, key))}
        for key, region in used.items():
            if region not in {*REGIONS, *self.named_regions} and not region[0].isdigit():
                known_regions = ", ".join([*REGIONS, *self.named_regions])
                raise ValueError(f"{key}: {region!r} is none of {known_regions}, and not among named_regions")
        for number, entry in enumerate(self.exports):
            if entry.model not in self.models:
                raise ValueError(f"exports.{number}.model: {entry.model} is not among {list(self.models)}")
            self._check_export(number, entry)
        return self

    def _check_export(self, number: int, entry: Export) -> None:
        """Check that the run which an entry under exports is made of can be there."""
        kind, _, name = entry.run.partition("-")
        elsewhere, grid = self.models[entry.model].tuned, self.finetuning
        if kind == TUNED:
            if name not in elsewhere:
                raise ValueError(f"exports.{number}.run: models.{entry.model}.tuned has no {name}, but {[*elsewhere]}")
        elif grid is None:
            raise ValueError(f"exports.{number}.run: {entry.run} would be trained, and there is no finetuning")
        elif kind not in (methods := ["full", "lora", *grid.variants]):
            raise ValueError(f"exports.{number}.run: its method {kind} is none of {', '.join(methods)}")
        if STRATEGY_TRAITS[entry.strategy].other_seeds:
            sizes, tuned = ([], [name]) if kind == TUNED else (entry.run.split("-")[2:3], [])
            self._check_seeds(f"exports.{number}", entry.strategy, "run", sizes, tuned)

    def regions_of(self, model: str) -> list[str]:
        """List the regions that are compared, restored or exported of a model; named ones as what they stand for."""
        used = [*self.regions]
        used += [entry.region for entry in self.restoration if model in (entry.models or [model])]
        used += [entry.region for entry in self.exports if entry.model == model]
        return [self.named_regions.get(region, region) for region in dict.fromkeys(used)]

    def _check_choices(self, number: int, entry: Restoration) -> None:
        """Check that what an entry under restoration chooses among is there."""
        grid = self.finetuning
        known = {"models": list(self.models)}
        known |= {key: getattr(grid, key) if grid else [] for key in GRID_CHOICES}
        models = [self.models[name] for name in entry.models or self.models if name in self.models]
        known["tuned"] = list(dict.fromkeys(name for model in models for name in model.tuned))
        for key, allowed in known.items():
            place = "the tuned models, which are" if key == "tuned" else "the grid, which has"
            for value in getattr(entry, key) or ():
                if value not in allowed:
                    raise ValueError(f"restoration.{number}.{key}: {value} is not in {place} {allowed}")

    def facts_limit(self, split: str) -> int | None:
        """Return the largest number of facts of a split that each topic gives; None for all.

        Where nothing is trained, train facts only stand as examples before questions, so few are enough.
        """
        limit = self.facts.limit(split)
        if split == "train" and self.finetuning is None:
            few = max(TRAIN_FACTS, 2 * self.evaluation.few_shot)
            return few if limit is None else min(few, limit)
        return limit

    def _check_seeds(
        self, where: str, strategy: str, key: str, sizes: Sequence[int | str], elsewhere: Sequence[str]
    ) -> None:
        """Check that a strategy which compares models of several seeds finds several.

        Args:
            where: the entry that it stands in.
            strategy: its name.
            key: the key of the entry that gives the sizes.
            sizes: the training set sizes that the entry names.
            elsewhere: the models fine-tuned elsewhere that the entry names.
        """
        if elsewhere:
            raise ValueError(
                f"{where}: {strategy} compares the models of several seeds, and of {elsewhere[0]}, which was"
                " fine-tuned elsewhere, there is one; choose another strategy for it"
            )
        if len(self.seeds) < 2:
            has = "finetuning.seeds has one; add a seed" if self.seeds else "nothing is trained here; add finetuning"
            raise ValueError(
                f"{where}.strategy: {strategy} compares the models of several seeds, and {has}, or choose another"
                " strategy"
            )
        if "all" in sizes:
            raise ValueError(
                f"{where}.{key}: the size all is trained with one seed only, and {strategy} compares the models of"
                " several"
            )

    @property
    def seeds(self) -> list[int]:
        """The seeds of the grid; none where nothing is trained."""
        return self.finetuning.seeds if self.finetuning else []

    def answering_dtype(self, model: str) -> Dtype:
        """Return the number format that a model is asked in, before and after fine-tuning and restored."""
        return self.models[model].dtype or self.evaluation.dtype

    def computing_dtypes(self) -> dict[str, str]:
        """Map each setting that says in which number format torch computes to that format. vLLM needs GPUs anyway."""
        grid, found = self.finetuning, {}
        for key, section in {"mastery": self.mastery, "evaluation": self.evaluation}.items():
            if section.engine == "torch":
                found[f"{key}.dtype"] = section.dtype
        found |= {f"models.{name}.dtype": model.dtype for name, model in self.models.items() if model.dtype}
        if self.evaluation.engine == "torch":
            for number, entry in enumerate(self.restoration):
                found |= {f"restoration.{number}.more_dtypes ({dtype})": dtype for dtype in entry.more_dtypes}
        if grid is None:
            return found
        for method in grid.methods:
            recipe = grid.training(method)[1]
            found[f"finetuning ({method})"] = recipe.compute or recipe.dtype
        return found

    def narrow_answers(self) -> list[str]:
        """List the models, by name, that are restored by changes which their answers are too coarse to see whole.

        In which format models were fine-tuned elsewhere is not known here.
        """
        widths = {"float32": 4, "bfloat16": 2, "float16": 2}
        grid = self.finetuning
        if grid is None:
            return []

        def narrow(entry: Restoration, model: str) -> bool:
            deltas = [grid.training(method)[1].dtype for method in entry.methods or grid.methods]
            return max(map(widths.__getitem__, deltas)) > widths[self.answering_dtype(model)]

        return [
            model
            for model in self.models
            if any(narrow(entry, model) for entry in self.restoration if model in (entry.models or [model]))
        ]


def json_schema() -> str:
    """Return the JSON schema of the configuration."""
    return json.dumps(Configuration.model_json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
