"""Relative changes, regions, selections and divergence: identities, and agreement with a plain implementation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import knowshift.restoration.distinct_values
import knowshift.weights.versions
from knowshift.evaluation.divergence import kl_of_logits
from knowshift.restoration.change_statistics import summarise
from knowshift.restoration.concentration import concentration, count_of
from knowshift.restoration.schemas import QUANTILES
from knowshift.restoration.selection import STRATEGIES, Selection, select
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.regions import in_region, layer_and_module, layers_of, members
from knowshift.weights.torch_bits import as_tensor, name_of
from made_up_weights import LAYER, NAMES, Triple, held, plain_changes, plain_masks, triples


def undone(members: list[Triple], selection: Selection) -> list[torch.Tensor]:
    """The restored tensors of a region."""
    found = []
    for name, _, tuned in members:
        bits = np.concatenate([piece for _, piece in selection.restored(held(members), name)])
        found.append(as_tensor(bits, name_of(tuned.dtype)).reshape(tuned.shape))
    return found


def check_against_the_reference(members: list[Triple], strategy: str, percents: list[float], threads: int = 1) -> None:
    selections = select(held(members), strategy, "all", percents, threads=threads)
    for percent, selection in zip(percents, selections, strict=True):
        masks = plain_masks(members, strategy, percent)
        for restored, mask, (_, base, tuned) in zip(undone(members, selection), masks, members, strict=True):
            integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[base.element_size()]
            assert torch.equal(restored.view(integers), torch.where(mask, base, tuned).view(integers))
        r = plain_changes(members).split([base.numel() for _, base, _ in members])
        for row, part, mask in zip(selection.tensors.to_pylist(), r, masks, strict=True):
            chosen = part[mask.reshape(-1)].double()
            assert row["restored"] == len(chosen) and row["restored_unchanged"] == int((chosen == 0).sum())
            assert row["restored_sum"] == pytest.approx(float(chosen.sum()), rel=1e-12)
            assert row["sum"] == pytest.approx(float(part.double().sum()), rel=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("strategy", ["top", "bottom", "absolute"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_selections_are_those_of_a_full_sort(strategy: str, dtype: torch.dtype, ties: bool) -> None:
    check_against_the_reference(triples(dtype=dtype, ties=ties), strategy, [0, 0.1, 1, 3, 20, 50, 97.5, 100])


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.lists(st.tuples(*[st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.0, 1e-8, 3e-39, 1e4])] * 2), min_size=1, max_size=60),
        min_size=1, max_size=4,
    ),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    strategy=st.sampled_from(["top", "bottom", "absolute"]),
    percents=st.lists(st.floats(0, 100), min_size=1, max_size=4),
    small=st.booleans(),
    tabled=st.booleans(),
)  # fmt: skip
def test_ties_and_zeros_are_resolved_as_by_a_stable_sort(values, dtype, strategy, percents, small, tabled) -> None:
    members = [
        (f"t{number}", *(torch.tensor(side).to(dtype) for side in zip(*pair, strict=True)))
        for number, pair in enumerate(values)
    ]
    with pytest.MonkeyPatch.context() as patch:
        if small:  # many pieces and segments of each tensor
            patch.setattr(knowshift.weights.versions, "PIECE", 4)
            patch.setattr(knowshift.weights.versions, "SEGMENT", 8)
        if tabled:
            patch.setattr(knowshift.restoration.distinct_values, "MANY", 0)
        check_against_the_reference(members, strategy, percents, threads=2)


def test_a_stored_histogram_saves_a_pass_and_changes_nothing() -> None:
    every = held(triples(ties=True))
    histogram, _ = summarise(every, "transformer")
    for strategy in ("top", "bottom"):
        expected = select(every, strategy, "transformer", [5, 60])
        for one, two in zip(
            expected, select(every, strategy, "transformer", [5, 60], histogram=histogram), strict=True
        ):
            assert one == two
    with pytest.raises(KnowshiftError, match="but the region mlp has"):
        select(every, "top", "mlp", [5], histogram=histogram)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_selections_are_nested_and_end_at_base_and_tuned(strategy: str) -> None:
    every = triples()
    nothing, few, more, whole = (
        undone(every, one) for one in select(held(every), strategy, "all", [0, 10, 40, 100], 5)
    )
    assert all(torch.equal(a, tuned) for a, (_, _, tuned) in zip(nothing, every, strict=True))
    assert all(torch.equal(a, base) for a, (_, base, _) in zip(whole, every, strict=True))
    for small, large, (_, base, tuned) in zip(few, more, every, strict=True):
        back = (small == base) & (base != tuned)
        assert torch.equal(large[back], base[back])


def test_random_selections_follow_the_seed_and_have_no_bias() -> None:
    members = [(LAYER, torch.zeros(400, 500), torch.ones(400, 500))]

    def mask(seed: int) -> torch.Tensor:
        (selection,) = select(held(members), "random", "all", [30], seed)
        assert selection.tensors["restored"].to_pylist() == [60_000]
        (restored,) = undone(members, selection)
        return restored == 0

    assert torch.equal(mask(1), mask(1)) and not torch.equal(mask(1), mask(2))
    assert int(mask(1).sum()) == 60_000
    assert abs(mask(1)[:, :250].float().mean() - 0.3) < 0.01  # half of the columns: six standard deviations


def test_counts_are_exact_where_floats_are_not() -> None:
    assert count_of(1000, 0.7) == 7  # 1000 * 0.7 / 100 is 6.999… in binary floating point
    assert count_of(10**12 + 1, 100) == 10**12 + 1


@pytest.mark.parametrize("small", [False, True])
def test_histogram_and_statistics_agree_with_a_sort(small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if small:
        monkeypatch.setattr(knowshift.weights.versions, "PIECE", 50)
        monkeypatch.setattr(knowshift.weights.versions, "SEGMENT", 100)
    every = triples()
    histogram, tensors = summarise(held(every), "transformer", threads=2)
    members = [triple for triple in every if in_region(triple[0], "transformer")]
    r = plain_changes(members).double()
    falling = r.sort(descending=True).values
    assert int(np.sum(histogram["count"].to_numpy())) == len(r)
    assert np.sum(histogram["sum"].to_numpy()) == pytest.approx(float(r.sum()), rel=1e-14)
    for percent in (1, 5, 20, 60, 100):
        share = concentration(histogram["count"].to_numpy(), histogram["sum"].to_numpy(), percent)
        assert share == pytest.approx(float(falling[: count_of(len(r), percent)].sum() / r.sum()), rel=1e-3)
    assert sum(tensors["zero_before"].to_pylist()) == sum(histogram["zero_count"].to_pylist()) == 9
    for row, part in zip(tensors.to_pylist(), r.split([17 * 23] * 3), strict=True):
        assert row["unchanged"] == int((part == 0).sum()) and row["largest"] == float(part.max())
        assert row["mean"] == pytest.approx(float(part.mean()), rel=1e-14)
        ranked = part.sort().values
        for name, share in QUANTILES.items():
            exact = float(ranked[int(len(part) * share) - 1])
            assert exact * (1 - 1 / 4096) <= row[name] <= exact


@pytest.mark.parametrize("many", [0, 1 << 21])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_few_changes_are_counted_like_many(dtype: torch.dtype, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nine in ten unchanged, zeros among them: ways of their own lead past these.
    draw = torch.Generator().manual_seed(3)
    base = torch.randn(5000, generator=draw).to(torch.bfloat16)
    base[:100] = 0
    moved = torch.rand(5000, generator=draw) < 0.1
    tuned = torch.where(moved, base + 0.01 * torch.randn(5000, generator=draw).bfloat16(), base)
    members = [(LAYER, base.to(dtype), tuned.to(dtype))]
    monkeypatch.setattr(knowshift.restoration.distinct_values, "MANY", many)
    met = knowshift.restoration.distinct_values.PairTable().distinct(held(members), LAYER, 0, 5000)
    assert (met is not None) == (dtype == torch.bfloat16 and not many)
    for strategy in ("top", "bottom", "absolute"):
        check_against_the_reference(members, strategy, [1, 5, 50])
    histogram, tensors = summarise(held(members), "all")
    bins, counts = np.unique(plain_changes(members).numpy().view(np.int32) >> 11, return_counts=True)
    assert histogram["bin"].to_pylist() == bins.tolist() and histogram["count"].to_pylist() == counts.tolist()
    assert tensors["zero_before"].to_pylist() == [100]
    assert tensors["unchanged"].to_pylist() == [int((base == tuned).sum())]


def test_regions_of_names() -> None:
    assert [name for name in NAMES if in_region(name, "transformer")] == NAMES[:3]
    assert [name for name in NAMES if in_region(name, "embedding")] == NAMES[5:]
    assert layer_and_module(NAMES[1]) == (0, "self_attn.q_proj")
    assert {name for name in NAMES[:3] if in_region(name, "attention")} | {
        n for n in NAMES[:3] if in_region(n, "mlp")
    } == set(NAMES[:3])
    assert members(NAMES, "0") == NAMES[:2] and members(NAMES, "1") == NAMES[2:3]
    assert members(NAMES, "0-1") == members(NAMES, "0,1") == members(NAMES, "transformer")
    assert members(NAMES, r"(q|v)_proj\.weight$") == NAMES[1:2]
    assert layers_of("0,5,7-9") == {0, 5, 7, 8, 9} and layers_of("layers") is None


@pytest.mark.parametrize(
    ("name", "regions"),
    [
        ("model.decoder.layers.1.fc1.weight", {"transformer", "mlp"}),  # OPT
        ("model.decoder.embed_positions.weight", {"embedding"}),
        ("gpt_neox.layers.0.attention.query_key_value.bias", {"transformer", "attention"}),
        ("gpt_neox.embed_in.weight", {"embedding"}),
        ("model.layers.0.block_sparse_moe.experts.3.w1.weight", {"transformer", "mlp"}),  # Mixtral
        ("transformer.h.2.self_attention.dense.weight", {"transformer", "attention"}),  # Falcon
        ("transformer.h.0.attn.c_attn.weight", {"transformer", "attention"}),  # GPT-2
        ("transformer.wpe.weight", {"embedding"}),
    ],
)
def test_regions_of_other_architectures(name: str, regions: set[str]) -> None:
    assert {region for region in ("transformer", "attention", "mlp", "embedding") if in_region(name, region)} == regions


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("0-2", "no layer 2; it has 2"),
        ("3-1", "end before"),
        ("transfomer", "no tensor.*transformer"),
        ("(", "expression"),
    ],
)
def test_a_region_that_is_none_is_named(region: str, said: str) -> None:
    with pytest.raises(KnowshiftError, match=said):
        members(NAMES, region)


@pytest.mark.parametrize("many", [0, 1 << 21])
@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_that_are_not_finite_are_named(
    side: int, dtype: torch.dtype, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowshift.restoration.distinct_values, "MANY", many)
    every = triples(dtype=dtype)
    every[2][side][3, 4] = math.inf if side == 1 else math.nan
    for work in (lambda: summarise(held(every), "all"), lambda: select(held(every), "absolute", "all", [5])):
        with pytest.raises(KnowshiftError, match=f"{every[2][0]} has values {['before', 'after'][side - 1]} training"):
            work()
    same = torch.full((100,), math.nan, dtype=dtype)  # equal bits
    with pytest.raises(KnowshiftError, match="before training"):
        summarise(held([(LAYER, same, same)]), "all")


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
