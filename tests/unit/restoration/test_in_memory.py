"""One model in memory becomes one restored model after another, and each of them is the one that is made alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from architectures import make
from hypothesis import given, settings
from hypothesis import strategies as st

from knowshift.allowed_values import STRATEGY_TRAITS
from knowshift.generation.packed_linears import PackedLinear, TransposedLinear
from knowshift.generation.torch_engine import Engine
from knowshift.restoration import in_memory
from knowshift.restoration.in_memory import RestoredModels
from knowshift.runtime.artefacts import whole_directory
from knowshift.weights.deltas import diff_weights

SHARES = [0.0, 30.0, 70.0, 100.0]
REGIONS = ["mlp", "all"]
# Tied and untied embeddings, Conv1D layers that have biases, experts that are parts of one parameter.
TYPES = ["llama", "llama untied", "gpt2", "mixtral"]

Made = tuple[str, str, float]  # strategy, region, percent


def train(model_type: str, dtype: torch.dtype, root: Path) -> Path:
    """Write a tiny model, and deltas of three seeds to it; the first leaves one layer as it was."""
    name, _, untied = model_type.partition(" ")
    model = make(name, tie_word_embeddings=not untied and name == "llama").to(dtype)
    model.save_pretrained(root / "base")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for seed in (1, 2, 3):
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                moved = before[key] + 0.05 * torch.randn(parameter.shape, generator=draw).to(dtype)
                parameter.copy_(before[key] if ".1." in key and seed == 1 else moved)
        model.save_pretrained(root / f"tuned{seed}")
        facts: dict = {}
        with whole_directory(root / f"delta{seed}", facts) as delta:
            facts |= diff_weights(root / "base", root / f"tuned{seed}", delta)
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders as `train` makes them, by the model's type, and one of a model that was trained in bfloat16."""
    made = {kind: train(kind, torch.float32, tmp_path_factory.mktemp("model")) for kind in TYPES}
    return made | {"bfloat16": train("llama", torch.bfloat16, tmp_path_factory.mktemp("model"))}


def prepare(models: RestoredModels, folder: Path, strategy: str, region: str, percents: list[float]) -> None:
    others = [folder / "delta2", folder / "delta3"] if STRATEGY_TRAITS[strategy].other_seeds else []
    models.undo(strategy, region, percents, 7, others=others)


def states(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all that a model computes with, also what an engine has laid out anew."""
    yield from model.named_parameters()
    yield from model.named_buffers()
    for name, layer in model.named_modules():
        if isinstance(layer, TransposedLinear):
            yield f"{name}.transposed", layer.transposed
        elif isinstance(layer, PackedLinear):
            yield f"{name}.packed", layer.packed.to_dense()


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    left, right = dict(states(one)), dict(states(other))
    alike = [left[key].dtype == right[key].dtype and torch.equal(left[key], right[key]) for key in left]
    return left.keys() == right.keys() and all(alike)


def alone(folder: Path, made: Made, dtype: str) -> torch.nn.Module:
    """Make one restored model as a job of its own makes it, out of the fine-tuned weights themselves."""
    models = RestoredModels(folder / "base", folder / "delta1")
    prepare(models, folder, made[0], made[1], [made[2]])
    return models.make(made[2], dtype, "cpu", last=True)


@pytest.mark.parametrize("kind", ["llama", "mixtral", "bfloat16"])
def test_every_restored_model_in_a_row_is_the_one_that_is_made_alone(folders: dict[str, Path], kind: str) -> None:
    folder, shares = folders[kind], [0.0, 30.0, 100.0]
    models = RestoredModels(folder / "base", folder / "delta1")
    for strategy in STRATEGY_TRAITS:
        prepare(models, folder, strategy, "transformer", shares)
        for percent in shares:
            made = models.make(percent, "float32", "cpu")
            assert same(made, alone(folder, (strategy, "transformer", percent), "float32")), (strategy, percent)
    prepare(models, folder, "top", "transformer", [0.0])
    assert same(models.make(0, "float32", "cpu", last=True), alone(folder, ("top", "transformer", 0), "float32"))


MADE = st.tuples(st.sampled_from([*STRATEGY_TRAITS]), st.sampled_from(REGIONS), st.sampled_from(SHARES))


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([*TYPES, "bfloat16"]), st.sampled_from(["float32", "bfloat16"]), st.lists(MADE, min_size=2))
def test_models_of_any_strategies_and_regions_follow_each_other_in_any_order(
    folders: dict[str, Path], kind: str, dtype: str, order: list[Made]
) -> None:
    folder, order = folders[kind], order[:5]
    models = RestoredModels(folder / "base", folder / "delta1")
    for number, made in enumerate(order, 1):
        prepare(models, folder, *made[:2], [made[2]])
        model = models.make(made[2], dtype, "cpu", last=number == len(order))
        assert same(model, alone(folder, made, dtype))


@pytest.mark.parametrize(
    ("kind", "dtype"), [("llama", "float32"), ("llama untied", "bfloat16"), ("mixtral", "float32")]
)
def test_an_engine_runs_the_next_model_in_the_layout_that_it_has(
    folders: dict[str, Path], kind: str, dtype: str
) -> None:
    folder, engine = folders[kind], None
    models = RestoredModels(folder / "base", folder / "delta1")
    for made in [("top", "all", 30.0), ("interpolate", "all", 70.0), ("last_layers", "mlp", 70.0), ("top", "all", 0.0)]:
        prepare(models, folder, made[0], made[1], [made[2]])
        model = models.make(made[2], dtype, "cpu")
        engine = engine or Engine(model, 8, 1)
        assert engine.model is model and same(model, Engine(alone(folder, made, dtype), 8, 1).model)  # type: ignore


def test_only_parameters_that_differ_are_written(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folders["llama"]
    written: list[str] = []
    put = in_memory._put

    def counted(modules: dict, name: str, *more: object) -> None:
        written.append(name)
        put(modules, name, *more)  # type: ignore

    monkeypatch.setattr(in_memory, "_put", counted)
    models = RestoredModels(folder / "base", folder / "delta1")

    def moved(strategy: str, percent: float, region: str = "mlp") -> set[str]:
        written.clear()
        prepare(models, folder, strategy, region, [percent])
        models.make(percent, "float32", "cpu")
        assert len(written) == len({*written})
        return {*written}

    assert moved("top", 0) == set()  # it is the fine-tuned model
    every = moved("top", 100)
    assert every and all(".mlp." in name for name in every)  # nothing outside the region
    assert moved("interpolate", 100) == moved("last_layers", 100) == set()  # the same model
    half = moved("last_layers", 60)
    assert half == {name for name in every if ".0." in name}  # the layers that are no longer set back
    assert moved("random", 30) == every and moved("random", 30) == set()
    assert moved("top", 0) == every
    assert {name for name in moved("top", 30, "all") if "embed" in name or "lm_head" in name}
