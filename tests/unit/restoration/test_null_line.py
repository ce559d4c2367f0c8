"""Sums of changes beside relative changes, the null line, and what bfloat16 sees: agreement with plain computations."""

import numpy as np
import pytest
import torch

import knowshift.weights.versions
from knowshift.restoration.change_statistics import measure_changes
from knowshift.restoration.change_sums import SegmentSummer
from knowshift.restoration.concentration import concentration, count_of
from knowshift.restoration.kernels import permute
from knowshift.weights.regions import in_region
from made_up_weights import LAYER, Triple, held, plain_changes, triples

PERCENTS = [1, 3, 5, 10, 20, 40, 60]


def shares(histogram, prefix: str, of: str = "sum", percents: list = PERCENTS) -> list[float]:
    """The shares, in percent, of a column of the histogram that the most changed parameters hold."""
    columns = [histogram[prefix + name].to_numpy() for name in ("count", of)]
    return [100 * concentration(*columns, percent) for percent in percents]


def independent(parameters: int, seed: int = 0) -> list[Triple]:
    """Normal weights (standard deviation 0.02), and changes that know nothing of them: no training at all."""
    draw = torch.Generator().manual_seed(seed)
    before = 0.02 * torch.randn(parameters, generator=draw)
    return [(LAYER, before, before + 1e-5 * torch.randn(parameters, generator=draw))]


def test_dividing_by_the_weight_alone_concentrates_relative_changes_as_published() -> None:
    # Published for LLaMA-3-8B, mean of ten cells: 70.8, 78.9, 82.4, 87.2, 92.0, 96.6, 98.9.
    every = independent(4_000_000)
    exact = (every[0][2].double() - every[0][1].double()).abs() / (every[0][1].double().abs() + 1e-8)
    falling = exact.sort(descending=True).values
    plain = [float(100 * falling[: count_of(len(falling), percent)].sum() / falling.sum()) for percent in PERCENTS]
    histogram, _ = measure_changes(held(every), "all")
    expected = [71.6, 79.1, 82.6, 87.3, 92.0, 96.4, 98.5]
    assert plain == pytest.approx(expected, abs=0.9)  # one sample: the largest few of 4 million hold a percent
    assert shares(histogram, "") == pytest.approx(plain, abs=0.05)
    assert shares(histogram, "null_") == pytest.approx(expected, abs=0.9)  # so nothing is above the null line
    assert shares(histogram, "", "absolute")[4] == pytest.approx(shares(histogram, "null_", "absolute")[4], abs=0.2)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_of_changes_agree_with_a_sort(dtype: torch.dtype, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if small:
        monkeypatch.setattr(knowshift.weights.versions, "PIECE", 50)
        monkeypatch.setattr(knowshift.weights.versions, "SEGMENT", 100)
    members = [triple for triple in triples(dtype=dtype) if in_region(triple[0], "transformer")]
    histogram, tensors = measure_changes(held(members), "transformer", threads=2)
    before, after = (torch.cat([triple[side].reshape(-1).float() for triple in members]) for side in (1, 2))
    d = (after - before).abs().double()
    seen = before.bfloat16() != after.bfloat16()
    falling = d[plain_changes(members).sort(descending=True).indices]
    for name, values in {"absolute": falling, "squares": falling**2}.items():
        assert sum(tensors[name].to_pylist()) == pytest.approx(float(values.sum()), rel=1e-12)
        assert histogram[name].to_numpy().sum() == pytest.approx(float(values.sum()), rel=1e-12)
        found = shares(histogram, "", name, [20, 60, 100])
        plain = [float(100 * values[: count_of(len(d), percent)].sum() / values.sum()) for percent in (20, 60, 100)]
        assert found == pytest.approx(plain, abs=0.05)
        assert histogram[f"zero_{name}"].to_numpy().sum() == pytest.approx(
            float((d ** (1 + (name == "squares")))[before == 0].sum()), rel=1e-12
        )
    assert sum(tensors["visible_bfloat16"].to_pylist()) == histogram["visible_bfloat16"].to_numpy().sum() == seen.sum()
    assert histogram["null_count"].to_numpy().sum() == (before != 0).sum()


def test_the_null_line_keeps_every_change_in_its_tensor_and_follows_the_seed() -> None:
    draw = torch.Generator().manual_seed(1)
    ones = torch.ones(500)
    members = [
        ("model.layers.0.mlp.up_proj.weight", ones, ones + torch.rand(500, generator=draw)),
        ("model.layers.1.mlp.up_proj.weight", 1000 * ones, 1000 * ones),
    ]
    histogram, _ = measure_changes(held(members), "all")  # where all values are equal, a permutation changes nothing
    assert histogram["null_count"].to_pylist() == histogram["count"].to_pylist()
    assert histogram["null_sum"].to_pylist() == histogram["sum"].to_pylist()
    assert histogram["null_squares"].to_numpy() == pytest.approx(histogram["squares"].to_numpy(), rel=1e-14)

    one, again, other = (measure_changes(held(independent(5000)), "all", threads, seed)[0] for threads, seed in
                         ((1, 1), (3, 1), (1, 2)))  # fmt: skip
    assert one == again and one != other
    assert one.select(range(6)).num_rows and one["count"].to_numpy().sum() == other["count"].to_numpy().sum()


def test_a_permutation_of_segments_gives_the_null_line_of_whole_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    # Rows of weights of very different sizes, and changes that follow them: the case that blocks could hide.
    draw = torch.Generator().manual_seed(2)
    scale = torch.exp(torch.randn(512, 1, generator=draw))
    before = 0.02 * scale * torch.randn(512, 512, generator=draw)
    members = [(LAYER, before, before + 1e-5 * scale * torch.randn(512, 512, generator=draw))]
    whole, _ = measure_changes(held(members), "all")
    monkeypatch.setattr(knowshift.weights.versions, "SEGMENT", 1 << 15)
    monkeypatch.setattr(knowshift.weights.versions, "PIECE", 1 << 13)
    parts, _ = measure_changes(held(members), "all")
    assert shares(parts, "null_") == pytest.approx(shares(whole, "null_"), abs=3)


def test_permutations_are_permutations_without_bias() -> None:
    firsts = np.zeros((5, 5))
    for key in range(4000):
        values = np.arange(5, dtype=np.float32)
        permute(values, np.uint64(key * 7919 + 3))
        assert sorted(values) == [0, 1, 2, 3, 4]
        firsts[np.arange(5), values.astype(int)] += 1
    assert np.abs(firsts - 800).max() < 5 * np.sqrt(4000 * 0.2 * 0.8)


def test_a_summer_is_empty_after_each_segment() -> None:
    members = held(triples())
    summer = SegmentSummer(17 * 23)
    one, two = (summer.sum(members, segment, 5) for segment in [members.segments()[0]] * 2)
    assert all(
        np.array_equal(getattr(one.null, name), getattr(two.null, name)) for name in ("bins", "counts", "squares")
    )
