"""Deltas, relative changes and restoration: identities, and agreement with a plain implementation."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from knowshift.artifacts import read_manifest, whole_directory
from knowshift.deltas import Delta, decode, diff_weights, encode
from knowshift.divergence import kl_of_logits
from knowshift.errors import KnowshiftError
from knowshift.models import load_model
from knowshift.regions import in_region, layer_and_module
from knowshift.restored import load_restored, load_tuned
from knowshift.selection import Pair, restore
from knowshift.updates import concentration, count_of, relative_change, summarise

LAYER = "model.layers.0.mlp.up_proj.weight"
NAMES = [LAYER, "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight",
         "model.layers.1.input_layernorm.weight", "model.embed_tokens.weight"]  # fmt: skip


def pairs(seed: int = 0, dtype: torch.dtype = torch.float32, ties: bool = False) -> list[Pair]:
    draw = torch.Generator().manual_seed(seed)
    made = []
    for name in sorted(NAMES):
        base = torch.randn(17, 23, generator=draw)
        base[0, :3] = 0
        change = torch.randn(17, 23, generator=draw) * (torch.rand(17, 23, generator=draw) < 0.8)
        tuned = base * (1 + (change * 10).round() / 8) if ties else base + 0.01 * change
        made.append((name, base.to(dtype), tuned.to(dtype)))
    return made


def plain_mask(members: list[Pair], percent: float) -> dict[str, torch.Tensor]:
    """The authors' procedure, kept whole in memory: one vector of all relative changes, sorted, the largest first."""
    r = torch.cat([relative_change(base, tuned) for _, base, tuned in members])
    # A stable falling sort takes the earlier of equals first, which is the order of (tensor name, flat index).
    chosen = torch.sort(r, descending=True, stable=True).indices[: len(r) * int(percent * 1000) // 100_000]
    mask = torch.zeros(len(r), dtype=torch.bool)
    mask[chosen] = True
    parts = mask.split([base.numel() for _, base, _ in members])
    return {name: part for (name, _, _), part in zip(members, parts, strict=True)}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("percent", [0, 0.1, 1, 3, 20, 50, 97.5, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_selection_is_that_of_a_full_sort(percent: float, dtype: torch.dtype, ties: bool) -> None:
    every = pairs(dtype=dtype, ties=ties)
    members = [pair for pair in every if in_region(pair[0], "transformer")]
    expected = plain_mask(members, percent)
    parts = list(restore(lambda: every, "top", "transformer", percent, 0))
    assert [part.name for part in parts] == [name for name, _, _ in members]
    for part, (_, base, tuned) in zip(parts, members, strict=True):
        mask = expected[part.name].reshape(base.shape)
        assert torch.equal(part.tensor, torch.where(mask, base, tuned))
        assert part.restored == int(mask.sum())
    assert sum(part.restored for part in parts) == count_of(3 * 17 * 23, percent)


@pytest.mark.parametrize("strategy", ["top", "bottom", "random"])
def test_selections_are_nested_and_end_at_base_and_tuned(strategy: str) -> None:
    every = pairs()

    def restored(percent: float) -> list[torch.Tensor]:
        return [part.tensor for part in restore(lambda: every, strategy, "all", percent, 5)]

    assert all(torch.equal(a, tuned) for a, (_, _, tuned) in zip(restored(0), every, strict=True))
    assert all(torch.equal(a, base) for a, (_, base, _) in zip(restored(100), every, strict=True))
    before = restored(10)
    for small, large, (_, base, tuned) in zip(before, restored(40), every, strict=True):
        undone = (small == base) & (base != tuned)
        assert torch.equal(large[undone], base[undone])


def test_bottom_takes_what_top_leaves() -> None:
    every = [(name, base, tuned) for name, base, tuned in pairs() if not in_region(name, "embedding")]
    for name, base, tuned in every:
        tuned += 1e-3 * (torch.arange(base.numel()).reshape(base.shape) + 1 + hash(name) % 7)  # no two changes alike
    top = restore(lambda: every, "top", "all", 40, 0)
    bottom = restore(lambda: every, "bottom", "all", 60, 0)
    for high, low, (_, base, tuned) in zip(top, bottom, every, strict=True):
        assert torch.equal((high.tensor == base) ^ (low.tensor == base), tuned != base)


def test_random_selections_follow_the_seed_and_have_no_bias() -> None:
    base, tuned = torch.zeros(400, 500), torch.ones(400, 500)

    def mask(seed: int) -> torch.Tensor:
        (part,) = restore(lambda: [(LAYER, base, tuned)], "random", "all", 30, seed)
        return part.tensor == 0

    assert torch.equal(mask(1), mask(1)) and not torch.equal(mask(1), mask(2))
    assert int(mask(1).sum()) == 60_000
    assert abs(mask(1)[:, :250].float().mean() - 0.3) < 0.01  # half of the columns: six standard deviations


def test_counts_are_exact_where_floats_are_not() -> None:
    assert count_of(1000, 0.7) == 7  # 1000 * 0.7 / 100 is 6.999… in binary floating point
    assert count_of(10**12 + 1, 100) == 10**12 + 1


def test_histogram_sums_and_concentration_agree_with_a_sort() -> None:
    every = pairs()
    histogram, tensors = summarise(every, "transformer")
    members = [pair for pair in every if in_region(pair[0], "transformer")]
    r = torch.cat([relative_change(base, tuned) for _, base, tuned in members]).double().sort(descending=True).values
    assert int(np.sum(histogram["count"].to_numpy())) == len(r)
    assert np.sum(histogram["sum"].to_numpy()) == pytest.approx(float(r.sum()))
    for percent in (1, 5, 20, 60, 100):
        share = concentration(histogram["count"].to_numpy(), histogram["sum"].to_numpy(), percent)
        assert share == pytest.approx(float(r[: count_of(len(r), percent)].sum() / r.sum()), rel=1e-3)
    assert sum(tensors["zero_before"].to_pylist()) == 9
    assert sum(tensors["unchanged"].to_pylist()) == sum(int((base == tuned).sum()) for _, base, tuned in members)


def test_regions_of_names() -> None:
    assert [name for name in NAMES if in_region(name, "transformer")] == NAMES[:3]
    assert [name for name in NAMES if in_region(name, "embedding")] == NAMES[5:]
    assert layer_and_module(NAMES[1]) == (0, "self_attn.q_proj")
    assert {name for name in NAMES[:3] if in_region(name, "attention")} | {
        n for n in NAMES[:3] if in_region(n, "mlp")
    } == set(NAMES[:3])


# --- deltas ---


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=50), st.randoms(use_true_random=False))
def test_any_bit_pattern_survives(values: list[float], draw) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        tuned = torch.tensor(values).to(dtype)
        base = torch.tensor(draw.sample(values, len(values))).to(dtype)
        back = decode(base, *encode(base, tuned))
        width = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tuned.element_size()]
        assert torch.equal(back.view(width), tuned.view(width))


def write_model(directory: Path, tensors: Iterable[tuple[str, torch.Tensor]], shards: int = 1) -> Path:
    directory.mkdir()
    items = list(tensors)
    if shards == 1:
        save_file(dict(items), directory / "model.safetensors")
        return directory
    placed = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file(dict(items[number::shards]), directory / file)
        placed |= dict.fromkeys((name for name, _ in items[number::shards]), file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    return directory


def make_delta(base: Path, tuned: Path, output: Path) -> Path:
    facts: dict = {}
    with whole_directory(output, facts) as directory:
        facts |= diff_weights(base, tuned, directory, threads=2)
    return output


@pytest.mark.parametrize("shards", [(1, 1), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_base_and_delta_give_the_tuned_weights(tmp_path: Path, shards: tuple[int, int], dtype: torch.dtype) -> None:
    every = pairs(dtype=dtype)
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every), shards[0])
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every), shards[1])
    delta = make_delta(base, tuned, tmp_path / "delta")
    back = list(Delta(delta, base))
    assert [name for name, _, _ in back] == sorted(NAMES)
    assert all(torch.equal(a, b) for (_, _, a), (_, _, b) in zip(back, every, strict=True))
    assert len(list(delta.glob("delta-*"))) == shards[1]
    other = write_model(tmp_path / "other", ((n, t) for n, _, t in every))
    with pytest.raises(KnowshiftError, match="other weights"):
        Delta(delta, other)


def test_models_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    every = pairs()
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every))
    fewer = write_model(tmp_path / "fewer", ((n, t) for n, _, t in every[1:]))
    with pytest.raises(KnowshiftError, match=every[0][0]):
        make_delta(base, fewer, tmp_path / "d1")
    wider = write_model(tmp_path / "wider", ((n, t if i else t[:5].clone()) for i, (n, _, t) in enumerate(every)))
    with pytest.raises(KnowshiftError, match=r"\[17, 23\].*\[5, 23\]"):
        make_delta(base, wider, tmp_path / "d2")
    broken = write_model(tmp_path / "broken", ((n, t if i else t * torch.nan) for i, (n, _, t) in enumerate(every)))
    with pytest.raises(KnowshiftError, match="not finite"):
        make_delta(base, broken, tmp_path / "d3")
    assert not list(tmp_path.glob("*d[123]*"))


def test_a_damaged_delta_is_noticed_and_the_remedy_named(tmp_path: Path) -> None:
    every = pairs()
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every))
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every))
    delta = make_delta(base, tuned, tmp_path / "delta")
    (file,) = delta.glob("delta-*")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(KnowshiftError, match="snakemake --force"):
        Delta(delta, base)
    file.unlink()
    with pytest.raises(KnowshiftError, match="missing"):
        read_manifest(delta)


def test_restored_models_in_memory(tiny_model: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    draw = torch.Generator().manual_seed(1)
    tuned = write_model(
        tmp_path / "tuned",
        ((n, t + 1e-3 * torch.randn(t.shape, generator=draw)) for n, t in sorted(weights.items())),
    )
    delta = make_delta(tiny_model, tuned, tmp_path / "delta")
    expected = load_file(tuned / "model.safetensors")
    model = load_tuned(tiny_model, delta, "float32", "cpu")
    assert all(torch.equal(parameter, expected[name]) for name, parameter in model.named_parameters())
    whole, selection = load_restored(tiny_model, delta, "top", "all", 100, 0, "float32", "cpu")
    assert all(torch.equal(parameter, weights[name]) for name, parameter in whole.named_parameters())
    assert sum(selection["restored"].to_pylist()) == sum(t.numel() for t in weights.values())  # tied ones count once
    ids = torch.tensor([[1, 5, 9]])
    base = load_model(tiny_model, "float32")
    with torch.no_grad():
        assert torch.equal(whole(ids).logits, base(ids).logits)


# --- divergence ---


@settings(deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=2, max_size=10), st.floats(-50, 50))
def test_a_model_does_not_diverge_from_itself(logits: list[float], shift: float) -> None:
    values = np.array(logits)
    assert kl_of_logits(values, values) == 0
    assert kl_of_logits(values + shift, values) == pytest.approx(0, abs=1e-9)


def test_divergence_agrees_with_torch() -> None:
    draw = np.random.default_rng(0)
    tuned, base = draw.normal(size=(50, 10)) * 4, draw.normal(size=(50, 10)) * 4
    p, q = (torch.log_softmax(torch.tensor(x), -1) for x in (tuned, base))
    expected = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    np.testing.assert_allclose(kl_of_logits(tuned, base), expected.numpy(), rtol=1e-9)
    assert (kl_of_logits(tuned, base) > 0).all()
