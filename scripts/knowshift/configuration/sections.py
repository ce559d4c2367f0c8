"""The configuration of an experiment: all sections together, and what must hold between them.

Each section is declared in a module of its own; `checking.py` turns the YAML of an experiment into these settings. The
JSON schema that editors use follows from them (`make schema`):

    python -m knowshift.configuration.sections > schemas/config.schema.json
"""

import json
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from knowshift.allowed_values import STRATEGY_TRAITS, Dtype
from knowshift.configuration.evaluation import Divergence, Evaluation
from knowshift.configuration.facts import ENTITYQUESTIONS, Facts
from knowshift.configuration.finetuning import GRID_KEYS, METHOD, Finetuning
from knowshift.configuration.mastery import Mastery
from knowshift.configuration.models import MODEL_NAME, DirectorySource, Model
from knowshift.configuration.restoration import REGION_NAME, Export, Region, RegionPattern, Restoration
from knowshift.configuration.section import Seeded, Several
from knowshift.weights.regions import REGIONS

# The rules take these from here, beside the configuration itself.
__all__ = ["ENTITYQUESTIONS", "GRID_KEYS", "METHOD", "REGION_NAME", "Configuration", "DirectorySource", "json_schema"]

# Folders that lie beside those of the models in the results, so that no model may have their names.
RESERVED = {"raw", "downloads", "facts", "tables", "figures", "logs", "benchmarks"}


class Configuration(Seeded):
    """All settings of an experiment that change its results."""

    allow_large: bool = Field(
        default=False,
        description="Consent to an experiment of an unusual size (more than 100,000 fine-tuned and restored models, or "
        "1,000,000 sampled tokens per fact; the message names the numbers). It changes no result.",
    )
    results: str = Field(
        default="results",
        min_length=1,
        max_length=1000,
        pattern=r"^[^{}\x00-\x1f\x7f]*[^{}\x00-\x1f\x7f/]$",
        description="Folder that all results are written to.",
    )
    models: dict[Annotated[str, Field(pattern=f"^{MODEL_NAME}$")], Model] = Field(
        min_length=1, description="Models by name; the name is that of the model's folder under results."
    )
    facts: Facts = Field(description="Where the facts come from, and how they are used.")
    mastery: Mastery = Field(default=Mastery(), description="How mastery is measured before training.")
    finetuning: Finetuning = Field(description="How models are fine-tuned, and on which training sets.")
    evaluation: Evaluation = Field(description="What models are asked, and how they answer.")
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
    exports: list[Export] = Field(default=[], description="Restored models that are written out as model directories.")

    @model_validator(mode="after")
    def _check_names(self) -> "Configuration":
        grid = self.finetuning
        if odd := sorted(set(self.models) & RESERVED):
            raise ValueError(f"models.{odd[0]}: this name is taken by another folder of the results")
        known = {
            "models": list(self.models),
            "methods": grid.methods,
            "data": grid.data,
            "sizes": grid.sizes,
            "seeds": grid.seeds,
        }
        for number, entry in enumerate(self.restoration):
            for key, allowed in known.items():
                for value in getattr(entry, key) or ():
                    if value not in allowed:
                        raise ValueError(f"restoration.{number}.{key}: {value} is not in the grid, which has {allowed}")
            if STRATEGY_TRAITS[entry.strategy].other_seeds:
                self._check_seeds(f"restoration.{number}", entry.strategy, "sizes", entry.sizes or ())
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
            if STRATEGY_TRAITS[entry.strategy].other_seeds:
                self._check_seeds(f"exports.{number}", entry.strategy, "run", entry.run.split("-")[2:3])
        return self

    def _check_seeds(self, where: str, strategy: str, key: str, sizes: Sequence[int | str]) -> None:
        """Check that a strategy which compares models of several seeds finds several.

        Args:
            where: the entry that it stands in.
            strategy: its name.
            key: the key of the entry that gives the sizes.
            sizes: the training set sizes that the entry names.
        """
        if len(self.finetuning.seeds) < 2:
            raise ValueError(
                f"{where}.strategy: {strategy} compares the models of several seeds, and finetuning.seeds has one; add"
                " a seed, or choose another strategy"
            )
        if "all" in sizes:
            raise ValueError(
                f"{where}.{key}: the size all is trained with one seed only, and {strategy} compares the models of"
                " several"
            )

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
        for method in grid.methods:
            recipe = grid.training(method)[1]
            found[f"finetuning ({method})"] = recipe.compute or recipe.dtype
        return found

    def narrow_answers(self) -> list[str]:
        """List the models, by name, that are restored by changes which their answers are too coarse to see whole."""
        widths = {"float32": 4, "bfloat16": 2, "float16": 2}

        def narrow(entry: Restoration, model: str) -> bool:
            grid = self.finetuning
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
