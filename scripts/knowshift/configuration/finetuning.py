"""The section `finetuning`: how models are trained, and on which grid of methods, data, sizes and seeds."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from knowshift.allowed_values import Dtype, Method
from knowshift.configuration.models import TUNED
from knowshift.configuration.section import Positive, Section, Seed, Several
from knowshift.configuration.stopping import Stop
from knowshift.runtime.errors import shown

Data = Literal["level0", "level1", "level2", "level3", "level4", "mixed"]
Drawn = Literal[Data, "known"]  # kinds of orders: those of data, and the well-known facts that are trained along

METHOD = "[a-z][a-z0-9_]{0,31}"  # pattern of a method's name, which begins the name of a run


class LoraSettings(Section):
    """Low-rank adapters (Hu et al. 2022), for the method lora."""

    rank: Annotated[int, Field(gt=0, le=65_536)] = Field(
        default=16, description="Rank of the product that is added to a weight matrix."
    )
    alpha: float = Field(
        default=32.0, gt=0, le=1e6, description="Scale of the adapters: the product is multiplied by alpha / rank."
    )
    learning_rate: float = Field(
        default=5e-4,
        gt=0,
        le=100,
        description="Peak learning rate of the adapters, instead of finetuning.learning_rate.",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Share of the adapters' inputs that is dropped in training, 0 to below 1."
    )
    targets: Literal["all-linear"] | Several[str] = Field(
        default="all-linear",
        description="Names of the linear layers that get adapters; all-linear takes all but the output head.",
    )


class Recipe(Section):
    """How a model is trained: everything about it that changes the resulting weights, except the data and the seed."""

    learning_rate: float = Field(
        default=1e-5, gt=0, le=100, description="Peak learning rate where all parameters are trained."
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine",
        description="Course of the learning rate after the warm-up: cosine and linear fall to zero, constant stays.",
    )
    warmup: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the optimizer steps over which the learning rate rises, 0 to below 1.",
    )
    batch_size: Annotated[int, Field(gt=0, le=1_000_000)] = Field(
        default=8, description="Number of examples per optimizer step, over all processes together."
    )
    epochs: Annotated[int, Field(gt=0, le=100_000)] = Field(
        default=1, description="Number of passes over the training set."
    )
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        default="adamw",
        description="Optimizer: adamw, or adamw_8bit, which keeps its moments in 8 bits (2 bytes per parameter instead "
        "of 8), trains in one process and needs the package bitsandbytes.",
    )
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled weight decay of AdamW.")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay rate of AdamW's first moment.")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="Decay rate of AdamW's second moment.")
    max_gradient_norm: float = Field(
        default=1.0, ge=0, description="Norm that gradients are clipped to before every optimizer step; 0 never clips."
    )
    l2_sp: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="Pull towards the base, where all parameters are trained: half of it times the squared distance of "
        "the weights from the base's is added to the loss; 0 adds nothing.",
    )
    replay: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Facts that the model knows well before training (levels 3 and 4) and that are trained along, per "
        "fact that is taught; 0 trains none along.",
    )
    loss_on: Literal["answer", "all"] = Field(
        default="answer", description="Tokens that the loss is taken over: those of the answer, or all of the example."
    )
    dtype: Dtype = Field(
        default="float32",
        description="Number format that the weights are trained and saved in; the parameter analysis needs float32.",
    )
    compute: Literal["bfloat16", "float16"] | None = Field(
        default=None, description="Number format that the arithmetic is autocast to; null computes in the weights' own."
    )
    lora: LoraSettings = Field(default=LoraSettings(), description="Adapters of the method lora.")


def check_pull(method: Method, recipe: Recipe) -> None:
    """Check that only weights that are trained themselves are pulled; raise a ValueError if adapters are trained."""
    if method == "lora" and recipe.l2_sp:
        raise ValueError(
            f"l2_sp is {recipe.l2_sp}, but lora trains adapters, and leaves the weights where they are; set l2_sp: 0"
            " for it, or method: full"
        )


def _explain_variant(problem: Any) -> str:
    """Say in one clause what is wrong with a variant, from one error of pydantic's."""
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{key} is no known key; allowed are method, stop_at, {', '.join(Recipe.model_fields)}"
    return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}, not {shown(problem['input'])}"


class Grid(Section):
    """Which models are trained: one for each combination of method, data, size and seed."""

    methods: Several[Annotated[str, Field(pattern=f"^{METHOD}$")]] = Field(
        default=["full"],
        description="Methods: full trains all parameters, lora trains adapters that are merged afterwards, and a name "
        "under variants trains as described there.",
    )
    data: Several[Data] = Field(description="Mastery levels that training facts are drawn from; mixed draws from all.")
    sizes: Several[Positive | Literal["all"]] = Field(
        description="Training set sizes in facts; all takes every fact there is."
    )
    seeds: Several[Seed] = Field(description="Seeds of the training sets; each gives one set per size.")
    method_data: dict[str, Several[Data]] = Field(
        default={},
        description="Kinds of data that a method is restricted to, by method; other methods run on all of data.",
    )
    data_sizes: dict[Data, Several[Positive | Literal["all"]]] = Field(
        default={},
        description="Training set sizes that a kind of data is restricted to, by kind of data; other kinds run at all "
        "of sizes.",
    )


GRID_KEYS = tuple(Grid.model_fields)  # say which cells there are


class Finetuning(Grid, Recipe):
    """How models are trained, and which of them."""

    variants: dict[Annotated[str, Field(pattern=f"^{METHOD}$")], dict[str, Any]] = Field(
        default={},
        description="Further methods by name: the method that is varied (full or lora), and the training settings that "
        "are different from those here; or, with stop_at alone beside method, the share of that method's optimizer "
        "steps (above 0, below 1) after which its training is stopped early.",
    )
    keep_deltas: Literal["all", "restored"] = Field(
        default="all",
        description="Which runs keep their delta: all, or only those that are restored or exported, which bounds the "
        "disk space; other runs are trained again before they can be evaluated again.",
    )

    def stop_of(self, method: str) -> Stop | None:
        """Return of which training a method is an earlier state, and which; None if it is a training of its own."""
        settings = self.variants.get(method, {})
        return Stop.model_validate(settings) if "stop_at" in settings else None

    def training(self, method: str) -> tuple[Method, Recipe]:
        """Return what a method trains (full or lora), and its recipe; if it stops early, those that it stops."""
        if stop := self.stop_of(method):
            method = stop.method
        changes = dict(self.variants.get(method, {}))
        kind = changes.pop("method", method)
        own = self.model_dump(include=set(Recipe.model_fields))
        if isinstance(changes.get("lora"), dict):
            changes["lora"] = {**own["lora"], **changes["lora"]}
        return kind, Recipe.model_validate({**own, **changes})

    def trained_otherwise(self) -> dict[str, str]:
        """Map each method of the grid but full to how it trains otherwise.

        It is `lora`, or the one setting that a variant of full changes; a variant that changes several is its own way.
        """
        ways = {}
        for method in self.methods:
            changes = dict(self.variants.get(method, {}))
            if changes.pop("method", method) == "lora":
                ways[method] = "lora"
            elif method != "full":
                ways[method] = next(iter(changes)) if len(changes) == 1 else method
        return ways

    @model_validator(mode="after")
    def _check_methods(self) -> "Finetuning":
        if taken := sorted({"full", "lora", TUNED} & set(self.variants)):
            raise ValueError(f"variants.{taken[0]}: this name is that of a method already")
        for name in self.variants:
            kind = self.variants[name].get("method")
            if kind not in ("full", "lora"):
                raise ValueError(f"variants.{name}.method must be full or lora, not {kind!r}")
            more = sorted({*self.variants[name]} - {*Stop.model_fields})
            if more and "stop_at" in self.variants[name]:
                raise ValueError(
                    f"variants.{name}: stop_at stops the training that method names, so {more[0]} cannot be changed"
                    " beside it; leave method and stop_at alone, or make two variants"
                )
            if kind == "lora" and "learning_rate" in self.variants[name]:
                raise ValueError(f"variants.{name}.learning_rate: adapters have their own, lora: {{learning_rate: …}}")
            try:
                check_pull(*self.training(name))
            except ValidationError as error:
                raise ValueError(f"variants.{name}: {'; '.join(map(_explain_variant, error.errors()))}") from None
            except ValueError as error:
                raise ValueError(f"variants.{name}: {error}") from None
        if "lora" in self.methods:
            check_pull(*self.training("lora"))
        known = {"full", "lora", *self.variants}
        for key in ("methods", "method_data"):
            if odd := [name for name in getattr(self, key) if name not in known]:
                raise ValueError(f"{key}: {odd[0]} is neither full nor lora, nor a name under variants")
        for name, kinds in self.method_data.items():
            if odd := [kind for kind in kinds if kind not in self.data]:
                raise ValueError(f"method_data.{name}: {odd[0]} is not among data, which has {self.data}")
        for kind, some in self.data_sizes.items():
            if kind not in self.data:
                raise ValueError(f"data_sizes: {kind} is not among data, which has {self.data}")
            if strange := [size for size in some if size not in self.sizes]:
                raise ValueError(f"data_sizes.{kind}: {strange[0]} is not among sizes, which has {self.sizes}")
        return self
