"""Relative changes and selections: identities, and agreement with a plain implementation that sorts everything."""

import math

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import knowshift.restoration.distinct_values
import knowshift.weights.versions
from knowshift.restoration.change_statistics import measure_changes
from knowshift.restoration.concentration import concentration, count_of
from knowshift.restoration.schemas import QUANTILES
from knowshift.restoration.strategies import undo
from knowshift.restoration.undoing import Undoing
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.regions import in_region
from knowshift.weights.torch_bits import as_tensor, name_of
from knowshift.weights.versions import Segment
from made_up_weights import LAYER, Triple, held, plain_changes, plain_masks, triples


def undone(members: list[Triple], selection: Undoing) -> list[torch.Tensor]:
    """The restored tensors of a region."""
    found = []
    for name, _, tuned in members:
        bits = np.concatenate([piece for _, piece in selection.restored_pieces(held(members), name)])
        found.append(as_tensor(bits, name_of(tuned.dtype)).reshape(tuned.shape))
    return found


def check_against_the_reference(members: list[Triple], strategy: str, percents: list[float], threads: int = 1) -> None:
    selections = undo(held(members), strategy, "all", percents, threads=threads)
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
@pytest.mark.parametrize("strategy", ["top", "bottom", "absolute", "smallest"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_selections_are_those_of_a_full_sort(strategy: str, dtype: torch.dtype, ties: bool) -> None:
    check_against_the_reference(triples(dtype=dtype, ties=ties), strategy, [0, 0.1, 1, 3, 20, 50, 97.5, 100])


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.lists(
            st.tuples(*[st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.0, 1e-8, 3e-39, 1e4])] * 2), min_size=1, max_size=60
        ),
        min_size=1,
        max_size=4,
    ),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    strategy=st.sampled_from(["top", "bottom", "absolute", "smallest"]),
    percents=st.lists(st.floats(0, 100), min_size=1, max_size=4),
    small=st.booleans(),
    tabled=st.booleans(),
)
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
            patch.setattr(knowshift.restoration.distinct_values, "FEWEST", 0)
        check_against_the_reference(members, strategy, percents, threads=2)


def test_a_stored_histogram_saves_a_pass_and_changes_nothing() -> None:
    every = held(triples(ties=True))
    histogram, _ = measure_changes(every, "transformer")
    for strategy in ("top", "bottom"):
        expected = undo(every, strategy, "transformer", [5, 60])
        for one, two in zip(expected, undo(every, strategy, "transformer", [5, 60], histogram=histogram), strict=True):
            assert one == two
    with pytest.raises(KnowshiftError, match="but the region has"):
        undo(every, "top", "mlp", [5], histogram=histogram)


@pytest.mark.parametrize("strategy", ["top", "bottom", "absolute", "smallest", "random"])
def test_selections_are_nested_and_end_at_base_and_tuned(strategy: str) -> None:
    every = triples()
    nothing, few, more, whole = (undone(every, one) for one in undo(held(every), strategy, "all", [0, 10, 40, 100], 5))
    assert all(torch.equal(a, tuned) for a, (_, _, tuned) in zip(nothing, every, strict=True))
    assert all(torch.equal(a, base) for a, (_, base, _) in zip(whole, every, strict=True))
    for small, large, (_, base, tuned) in zip(few, more, every, strict=True):
        back = (small == base) & (base != tuned)
        assert torch.equal(large[back], base[back])


def test_random_selections_follow_the_seed_and_have_no_bias() -> None:
    members = [(LAYER, torch.zeros(400, 500), torch.ones(400, 500))]

    def mask(seed: int) -> torch.Tensor:
        (selection,) = undo(held(members), "random", "all", [30], seed)
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
    histogram, tensors = measure_changes(held(every), "transformer", threads=2)
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


@pytest.mark.parametrize("fewest", [0, 1 << 21])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_few_changes_are_counted_like_many(dtype: torch.dtype, fewest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nine in ten unchanged, zeros among them: ways of their own lead past these.
    draw = torch.Generator().manual_seed(3)
    base = torch.randn(5000, generator=draw).to(torch.bfloat16)
    base[:100] = 0
    moved = torch.rand(5000, generator=draw) < 0.1
    tuned = torch.where(moved, base + 0.01 * torch.randn(5000, generator=draw).bfloat16(), base)
    members = [(LAYER, base.to(dtype), tuned.to(dtype))]
    monkeypatch.setattr(knowshift.restoration.distinct_values, "FEWEST", fewest)
    met = knowshift.restoration.distinct_values.PairTable().distinct(held(members), Segment(LAYER, 0, 5000))
    assert (met is not None) == (dtype == torch.bfloat16 and not fewest)
    for strategy in ("top", "bottom", "absolute", "smallest"):
        check_against_the_reference(members, strategy, [1, 5, 50])
    histogram, tensors = measure_changes(held(members), "all")
    bins, counts = np.unique(plain_changes(members).numpy().view(np.int32) >> 11, return_counts=True)
    histogram = histogram.filter(pc.field("count") > 0)  # other bins hold permuted changes only
    assert histogram["bin"].to_pylist() == bins.tolist() and histogram["count"].to_pylist() == counts.tolist()
    assert tensors["zero_before"].to_pylist() == [100]
    assert tensors["unchanged"].to_pylist() == [int((base == tuned).sum())]


@pytest.mark.parametrize("fewest", [0, 1 << 21])
@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_that_are_not_finite_are_named(
    side: int, dtype: torch.dtype, fewest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowshift.restoration.distinct_values, "FEWEST", fewest)
    every = triples(dtype=dtype)
    every[2][side][3, 4] = math.inf if side == 1 else math.nan
    for work in (lambda: measure_changes(held(every), "all"), lambda: undo(held(every), "absolute", "all", [5])):
        with pytest.raises(KnowshiftError, match=f"{every[2][0]} has values {['before', 'after'][side - 1]} training"):
            work()
    same = torch.full((100,), math.nan, dtype=dtype)  # equal bits
    with pytest.raises(KnowshiftError, match="before training"):
        measure_changes(held([(LAYER, same, same)]), "all")
