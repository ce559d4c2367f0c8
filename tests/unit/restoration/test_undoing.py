"""All ways to undo a part of an update: identities that each must keep, and agreement with plain implementations."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import knowshift.restoration.low_rank
import knowshift.weights.versions
from knowshift.allowed_values import STRATEGY_TRAITS, Strategy
from knowshift.restoration.concentration import count_of
from knowshift.restoration.export import export_restored
from knowshift.restoration.in_memory import RestoredModels
from knowshift.restoration.schemas import SELECTION, SELECTIONS
from knowshift.restoration.strategies import STRATEGIES, tabulate_undoings, undo
from knowshift.restoration.undoing import Undoing
from knowshift.runtime.artefacts import whole_directory
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.deltas import Delta, diff_weights, open_others
from knowshift.weights.regions import in_region, layer_and_module
from knowshift.weights.torch_bits import as_tensor, bits_of, name_of
from made_up_weights import LAYER, Triple, held, triples

ALL = list(STRATEGY_TRAITS)
NESTED = [name for name in ALL if STRATEGY_TRAITS[name].selects] + ["drop_rescale"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def test_every_strategy_is_described_and_carried_out() -> None:
    assert get_args(Strategy) == tuple(STRATEGY_TRAITS) == tuple(STRATEGIES)


def siblings(members: list[Triple], count: int = 2) -> list[list[Triple]]:
    """Models of other seeds, of the same base: their changes are drawn anew."""
    found = []
    for seed in range(count):
        draw = torch.Generator().manual_seed(100 + seed)
        moved = [base + 0.01 * torch.randn(base.shape, generator=draw) for _, base, _ in members]
        found.append(
            [(name, base, tuned.to(base.dtype)) for (name, base, _), tuned in zip(members, moved, strict=True)]
        )
    return found


def undoings(members: list[Triple], strategy: str, percents: list[float], region: str = "all", **more) -> list[Undoing]:
    others = [held(one) for one in siblings(members)] if STRATEGY_TRAITS[strategy].other_seeds else []
    return list(undo(held(members), strategy, region, percents, seed=5, others=others, **more))


def tensors_of(members: list[Triple], undoing: Undoing) -> dict[str, torch.Tensor]:
    """The tensors of the region with a part undone."""
    found = {}
    for name, _, tuned in members:
        if name in undoing.names:
            pieces = list(undoing.restored_pieces(held(members), name))
            assert [start for start, _ in pieces] == [0, *np.cumsum([len(bits) for _, bits in pieces])[:-1].tolist()]
            bits = np.concatenate([bits for _, bits in pieces])
            found[name] = as_tensor(bits, name_of(tuned.dtype)).reshape(tuned.shape)
    return found


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(np.array_equal(bits_of(one), bits_of(other)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strategy", ALL)
def test_nothing_undone_is_the_tuned_model_and_everything_undone_the_base(strategy: str, dtype: torch.dtype) -> None:
    members = triples(dtype=dtype)
    members[0][1][1, 1], members[0][2][1, 1] = -0.0, 0.0  # equal values of different bits
    tuned_again, base_again = undoings(members, strategy, [0, 100])
    for name, base, tuned in members:
        assert same_bits(tensors_of(members, tuned_again)[name], tuned)
        assert same_bits(tensors_of(members, base_again)[name], base)
    whole = sum(base.numel() for _, base, _ in members)
    assert (tuned_again.selected, base_again.selected) == (0, whole)
    for undoing, share in ((tuned_again, 0), (base_again, 1)):
        for row in undoing.tensors.to_pylist():
            assert row["restored"] == share * row["parameters"]
            assert row["restored_sum"] == pytest.approx(share * row["sum"], rel=1e-12)


@pytest.mark.parametrize("strategy", ALL)
def test_pieces_threads_and_other_shares_change_no_bit(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    members, percents = triples(), [3, 20, 50.5, 90]
    together = undoings(members, strategy, percents, threads=1)
    expected = [tensors_of(members, one) for one in together]
    for percent, one, whole in zip(percents, together, expected, strict=True):
        (alone,) = undoings(members, strategy, [percent])
        assert alone.tensors.equals(one.tensors)
        assert all(same_bits(tensor, whole[name]) for name, tensor in tensors_of(members, alone).items())
    monkeypatch.setattr(knowshift.weights.versions, "PIECE", 50)
    monkeypatch.setattr(knowshift.weights.versions, "SEGMENT", 100)
    monkeypatch.setattr(knowshift.restoration.low_rank, "PIECE", 50)
    monkeypatch.setattr(knowshift.restoration.low_rank, "KEPT_BYTES", 0)
    for one, whole in zip(undoings(members, strategy, percents, threads=3), expected, strict=True):
        assert all(same_bits(tensor, whole[name]) for name, tensor in tensors_of(members, one).items())


@pytest.mark.parametrize("region", ["transformer", "mlp", "0", "norm"])
@pytest.mark.parametrize("strategy", ALL)
def test_a_region_holds_the_tensors_that_change(strategy: str, region: str) -> None:
    members = triples()
    (undoing,) = undoings(members, strategy, [60], region)
    assert undoing.names == {name for name, _, _ in members if in_region(name, region)}
    assert undoing.parameters == sum(base.numel() for name, base, _ in members if in_region(name, region))
    assert undoing.percent == 60 and undoing.tensors.schema.equals(SELECTION)
    assert tabulate_undoings([undoing]).schema.equals(SELECTIONS)


@pytest.mark.parametrize("strategy", NESTED)
def test_a_larger_share_sets_back_what_a_smaller_one_does(strategy: str) -> None:
    members, percents = triples(), [0, 1, 10, 40, 75, 100]
    restored = [tensors_of(members, one) for one in undoings(members, strategy, percents)]
    for small, large in pairwise(restored):
        for name, base, tuned in members:
            back = (small[name] == base) & (base != tuned)
            assert torch.equal(large[name][back], base[back])


# --- agreement with plain implementations ---


@settings(max_examples=40, deadline=None)
@given(percent=st.floats(0, 100), dtype=st.sampled_from(DTYPES[:3]), seed=st.integers(0, 50))
def test_interpolation_is_the_weighted_mean_that_others_compute(percent: float, dtype: torch.dtype, seed: int) -> None:
    members = triples(seed, dtype)
    (undoing,) = undoings(members, "interpolate", [percent])
    back, kept = torch.tensor(percent / 100), torch.tensor(1 - percent / 100)
    for name, base, tuned in members:
        # mergekit's linear, the base first: a product in float32, and a fused multiply-add, which rounds once.
        fused = ((back * base.float()).double() + kept.double() * tuned.double()).float()
        found = tensors_of(members, undoing)[name]
        assert torch.equal(found, (fused / (back + kept)).to(dtype))
        exact = base.double() + (1 - percent / 100) * (tuned.double() - base.double())
        assert torch.allclose(found.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)
    assert sum(row["restored_sum"] for row in undoing.tensors.to_pylist()) == pytest.approx(
        percent / 100 * sum(row["sum"] for row in undoing.tensors.to_pylist()), rel=1e-12
    )


def test_interpolating_twice_is_interpolating_by_the_product() -> None:
    members = triples()
    (once,) = undoings(members, "interpolate", [30])
    half = [(name, base, tensors_of(members, once)[name]) for name, base, _ in members]
    (twice,) = undoings(half, "interpolate", [60])
    (product,) = undoings(members, "interpolate", [100 - 0.7 * 0.4 * 100])
    for name, _, _ in members:
        one, other = tensors_of(half, twice)[name], tensors_of(members, product)[name]
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_dropped_changes_are_those_of_random_and_the_others_grow(dtype: torch.dtype) -> None:
    members = triples(dtype=dtype)
    (plain,), (rescaled,) = (undoings(members, strategy, [30]) for strategy in ("random", "drop_rescale"))
    assert rescaled.selected == plain.selected == count_of(plain.parameters, 30)
    total = undone = 0.0
    for name, base, tuned in members:
        dropped = tensors_of(members, plain)[name] == base
        stays = base.float() + (tuned.float() - base.float()) * torch.tensor(1 / 0.7)
        found = tensors_of(members, rescaled)[name]
        assert torch.equal(found, torch.where(dropped, base, stays.to(dtype)))
        before, after, left = (one.double() for one in (base, tuned, found))
        total += float(((after - before).abs() / (before.abs() + 1e-8)).sum())
        undone += float((((after - before).abs() - (left - before).abs()) / (before.abs() + 1e-8)).sum())
    if dtype == torch.float32:
        rows = rescaled.tensors.to_pylist()
        assert sum(row["sum"] for row in rows) == pytest.approx(total, rel=1e-5)
        assert sum(row["restored_sum"] for row in rows) == pytest.approx(undone, rel=1e-3)


def test_dropping_and_rescaling_keep_the_mean_of_the_update() -> None:
    draw = torch.Generator().manual_seed(2)
    base, change = torch.zeros(300, 400), 1 + torch.rand(300, 400, generator=draw)
    members = [(LAYER, base, change)]
    for percent in (10, 50, 90):
        (undoing,) = undoings(members, "drop_rescale", [percent])
        (left,) = tensors_of(members, undoing).values()
        stays = 1 - percent / 100
        # The error of the mean of n draws: values of mean 1.5 and mean square 7/3, of which a share stays and grows.
        deviation = ((7 / 3 / stays - 1.5**2) / left.numel()) ** 0.5
        assert abs(float(left.double().mean()) - float(change.double().mean())) < 5 * deviation
        squares = float(left.double().square().mean()) * stays
        assert squares == pytest.approx(float(change.double().square().mean()), rel=0.02)  # the norm grows by 1 / stays


def test_a_value_that_grows_beyond_its_type_is_named() -> None:
    members = [(LAYER, torch.zeros(40, 40, dtype=torch.float16), torch.full((40, 40), 6e4, dtype=torch.float16))]
    (undoing,) = undoings(members, "drop_rescale", [50])
    with pytest.raises(KnowshiftError, match=f"tensor {LAYER} is too large for float16"):
        tensors_of(members, undoing)


@pytest.mark.parametrize("shape", [(17, 23), (23, 17), (30,), (3, 8, 5), (2, 5, 8), ()])
@pytest.mark.parametrize("percent", [1, 10, 50, 90, 99.9])
def test_low_rank_agrees_with_a_singular_value_decomposition(shape: tuple[int, ...], percent: float) -> None:
    draw = torch.Generator().manual_seed(4)
    base = torch.randn(shape, generator=draw)
    tuned = base + 0.01 * torch.randn(shape, generator=draw)
    members = [(LAYER, base, tuned)]
    (undoing,) = undoings(members, "low_rank", [percent])
    (found,) = tensors_of(members, undoing).values()
    stack = (tuned - base).double().numpy().reshape(-1, *(1, 1, *shape)[-2:])
    expected = np.empty_like(stack)
    for number, matrix in enumerate(stack):
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        held_by = np.cumsum(values**2) / np.sum(values**2)
        rank = int(np.argmax(held_by >= (1 - percent / 100) * (1 - 1e-9))) + 1
        expected[number] = (left[:, :rank] * values[:rank]) @ right[:rank]
    change = (found - base).double().numpy().reshape(stack.shape)
    assert np.allclose(change, expected, atol=1e-6)
    kept = np.square(change).sum((1, 2)) / np.square(stack).sum((1, 2))
    assert (kept >= 1 - percent / 100 - 1e-4).all()
    (row,) = undoing.tensors.to_pylist()
    left = np.abs(expected) / (np.abs(base.double().numpy().reshape(stack.shape)) + 1e-8)
    assert row["restored_sum"] == pytest.approx(row["sum"] - left.sum(), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("rank", "percent", "counts"), [(8, 1, [4, 8]), (8, 90, [4]), (120, 1, [4, 8, 16, None])])
def test_large_matrices_are_decomposed_into_as_many_directions_as_it_takes(
    rank: int, percent: float, counts: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(6)
    base, change = torch.randn(120, 200, generator=draw), torch.randn(120, rank, generator=draw)
    members = [(LAYER, base, base + 0.01 * change @ torch.randn(rank, 200, generator=draw))]
    (exact,) = undoings(members, "low_rank", [percent])
    expected, found, decompose = tensors_of(members, exact)[LAYER], [], knowshift.restoration.low_rank.decompose

    def recorded(matrix: np.ndarray, count: int | None, seed: int) -> knowshift.restoration.low_rank.Directions:
        found.append(count)
        return decompose(matrix, count, seed)

    monkeypatch.setattr(knowshift.restoration.low_rank, "EXACT", 10)
    monkeypatch.setattr(knowshift.restoration.low_rank, "FIRST_SKETCH", 4)
    monkeypatch.setattr(knowshift.restoration.low_rank, "decompose", recorded)
    state = torch.random.get_rng_state()
    one, other = (tensors_of(members, undoings(members, "low_rank", [percent])[0])[LAYER] for _ in range(2))
    assert found == 2 * counts and same_bits(one, other)
    left, whole = (tensor - base for tensor in (one, members[0][2]))
    assert float(left.square().sum()) >= (1 - percent / 100 - 1e-3) * float(whole.square().sum())
    ranks = [int(torch.linalg.matrix_rank(change, rtol=1e-3)) for change in (left, expected - base)]
    assert ranks[1] <= ranks[0] <= ranks[1] + 1
    if counts[-1] != 4:  # 4 directions are too few to tell 8 of nearly the same size apart
        assert torch.allclose(one, expected, atol=1e-4)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's random numbers are used up


@pytest.mark.parametrize("strategy", ["last_layers", "first_layers"])
def test_whole_layers_go_back_in_order(strategy: str) -> None:
    draw, sizes = torch.Generator().manual_seed(8), {0: 10, 1: 30, 2: 20, 10: 25}
    members = [
        (f"model.layers.{layer}.mlp.{part}.weight", *torch.randn(2, size, generator=draw))
        for layer, size in sizes.items()
        for part in ("down_proj", "up_proj")
    ]
    members.append(("lm_head.weight", *torch.randn(2, 7, generator=draw)))
    members.sort()
    whole = 2 * sum(sizes.values()) + 7
    order = sorted(sizes, reverse=strategy == "last_layers")
    percents = [0, 10, 33, 50, 66, 96, 97, 100]
    seen = set()
    for percent, undoing in zip(percents, undoings(members, strategy, percents), strict=True):
        back = max(n for n in range(5) if 2 * sum(sizes[layer] for layer in order[:n]) <= percent / 100 * whole)
        seen.add(back)
        for name, base, tuned in members:
            layer = layer_and_module(name)[0]
            restored = layer in order[:back] or percent == 100
            assert same_bits(tensors_of(members, undoing)[name], base if restored else tuned)
        assert undoing.selected == (whole if percent == 100 else 2 * sum(sizes[layer] for layer in order[:back]))
    assert seen == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("percent", [1, 25, 50, 80])
def test_changes_whose_sign_others_do_not_share_go_first(dtype: torch.dtype, percent: float) -> None:
    members = triples(dtype=dtype)
    (undoing,) = undoings(members, "sign_agreeing", [percent])
    change = torch.cat([(tuned.float() - base.float()).reshape(-1) for _, base, tuned in members])
    apart = torch.zeros(len(change), dtype=torch.int64)
    for other in siblings(members):
        theirs = torch.cat([(tuned.float() - base.float()).reshape(-1) for _, base, tuned in other])
        apart += theirs.sign() != change.sign()
    # Sizes count by their upper 24 bits, that is to 17 binary digits; a stable sort takes the earlier of equals first.
    sizes = (0x7FFFFFFF - change.abs().numpy().view(np.int32)) >> 7
    order = np.lexsort((np.arange(len(change)), -sizes, -apart.numpy()))
    mask = np.zeros(len(change), bool)
    mask[order[: count_of(len(change), percent)]] = True
    expected = torch.from_numpy(mask).split([base.numel() for _, base, _ in members])
    for (name, base, tuned), part in zip(members, expected, strict=True):
        assert same_bits(tensors_of(members, undoing)[name], torch.where(part.reshape(base.shape), base, tuned))


def test_models_of_other_seeds_are_asked_for() -> None:
    members = triples()
    with pytest.raises(KnowshiftError, match="1 to 127 other seeds, and 0 are given; name their deltas with --others"):
        undo(held(members), "sign_agreeing", "all", [5])
    with pytest.raises(KnowshiftError, match="strategy 'upwards' is none of top, bottom, "):
        undo(held(members), "upwards", "all", [5])
    with pytest.raises(KnowshiftError, match="101 is no share"):
        undo(held(members), "interpolate", "all", [101])
    members[0][2][0, 0] = torch.inf
    for strategy in ALL:
        with pytest.raises(KnowshiftError, match=f"{members[0][0]} has values after training that are not finite"):
            undoings(members, strategy, [50])


# --- in memory and on disk ---


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and deltas to it, of three seeds."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copytree(tiny_model, root / "base")
    weights = load_file(tiny_model / "model.safetensors")
    for seed in (1, 2, 3):
        draw = torch.Generator().manual_seed(seed)
        moved = {name: one + 0.02 * torch.randn(one.shape, generator=draw) for name, one in sorted(weights.items())}
        tuned = root / f"tuned{seed}"
        tuned.mkdir()
        save_file(moved, tuned / "model.safetensors")
        facts: dict = {}
        with whole_directory(root / f"delta{seed}", facts) as delta:
            facts |= diff_weights(root / "base", tuned, delta)
    return root


@pytest.mark.parametrize("strategy", ALL)
def test_the_model_in_memory_is_the_one_that_is_exported(trained: Path, tmp_path: Path, strategy: str) -> None:
    base, delta, percents = trained / "base", trained / "delta1", [0, 55, 100]
    others = [trained / "delta2", trained / "delta3"] if STRATEGY_TRAITS[strategy].other_seeds else []
    models = RestoredModels(base, delta)
    models.undo(strategy, "mlp", percents, 7, others=others)
    versions = Delta(delta, base).versions()
    for percent in percents:
        (undoing,) = undo(versions, strategy, "mlp", [percent], 7, others=open_others(base, others))
        assert undoing.tensors.equals(models.undoings[percent].tensors)
        output = tmp_path / str(percent)
        output.mkdir()
        about = {"name": "x", "after": "y", "strategy": strategy, "region": "mlp", "percent": percent, "seed": 1}
        export_restored(output, base, base, versions, undoing, about)
        exported = load_file(output / "model.safetensors")
        made = models.make(percent, "float32", "cpu", last=percent == 100)
        for name, parameter in made.named_parameters():
            assert torch.equal(parameter, exported[name]), name
        sides = {name: load_file(trained / name / "model.safetensors") for name in ("base", "tuned1")}
        for name, tensor in exported.items():
            if not in_region(name, "mlp"):
                assert torch.equal(tensor, sides["tuned1"][name])
            elif percent in (0, 100):
                assert torch.equal(tensor, sides["base" if percent else "tuned1"][name])
        report = json.loads((output / "selection.json").read_text())
        assert report["k_count"] == undoing.selected and report["strategy"] == strategy
        card = (output / "README.md").read_text()
        assert STRATEGY_TRAITS[strategy].undoes in card and "{" not in card


def test_a_model_of_another_seed_may_be_a_directory(trained: Path) -> None:
    versions = Delta(trained / "delta1", trained / "base").versions()
    one, other = (
        undo(versions, "sign_agreeing", "all", [30], others=open_others(trained / "base", [trained / name]))
        for name in ("delta2", "tuned2")
    )
    assert one[0].tensors.equals(other[0].tensors)
