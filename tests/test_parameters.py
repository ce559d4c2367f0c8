"""Deltas, relative changes and restoration: identities, and agreement with a plain implementation."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import knowshift.counting
import knowshift.deltas
import knowshift.pairs
from knowshift.artifacts import read_manifest, whole_directory
from knowshift.change_tables import QUANTILES, concentration, count_of
from knowshift.deltas import Delta, decode_chunk, diff_weights, encode_chunk, open_pairs
from knowshift.divergence import kl_of_logits
from knowshift.errors import KnowshiftError
from knowshift.models import load_model
from knowshift.pairs import Pairs, of_directories
from knowshift.regions import in_region, layer_and_module, layers_of, members
from knowshift.restored import load_restored, load_tuned
from knowshift.selection import STRATEGIES, Selection, select
from knowshift.tensors import as_tensor, bits_of, name_of
from knowshift.updates import summarise
from knowshift.weights import Weights

LAYER = "model.layers.0.mlp.up_proj.weight"
NAMES = [LAYER, "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight",
         "model.layers.1.input_layernorm.weight", "model.embed_tokens.weight"]  # fmt: skip


Triple = tuple[str, torch.Tensor, torch.Tensor]


def triples(seed: int = 0, dtype: torch.dtype = torch.float32, ties: bool = False) -> list[Triple]:
    """(name, base, tuned) in the order of names."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for name in sorted(NAMES):
        base = torch.randn(17, 23, generator=draw)
        base[0, :3] = 0
        change = torch.randn(17, 23, generator=draw) * (torch.rand(17, 23, generator=draw) < 0.8)
        tuned = base * (1 + (change * 10).round() / 8) if ties else base + 0.01 * change
        made.append((name, base.to(dtype), tuned.to(dtype)))
    return made


def held(members: list[Triple]) -> Pairs:
    """Pairs in memory."""
    bits = {name: (bits_of(base.reshape(-1)), bits_of(tuned.reshape(-1))) for name, base, tuned in members}
    shapes = {name: tuple(tuned.shape) for name, _, tuned in members}
    dtypes = {name: name_of(tuned.dtype) for name, _, tuned in members}
    return Pairs(shapes, dtypes, lambda name, start, stop: tuple(side[start:stop] for side in bits[name]))


def undone(members: list[Triple], selection: Selection) -> list[torch.Tensor]:
    """The restored tensors of a region."""
    found = []
    for name, _, tuned in members:
        bits = np.concatenate([piece for _, piece in selection.restored(held(members), name)])
        found.append(as_tensor(bits, name_of(tuned.dtype)).reshape(tuned.shape))
    return found


def plain_changes(members: list[Triple], strategy: str = "top") -> torch.Tensor:
    """One vector of the changes of a whole region, relative or absolute, by torch in float32."""
    before, after = (torch.cat([pair[side].reshape(-1).float() for pair in members]) for side in (1, 2))
    change = (after - before).abs()
    return change if strategy == "absolute" else change / (before.abs() + 1e-8)


def plain_masks(members: list[Triple], strategy: str, percent: float) -> list[torch.Tensor]:
    """The authors' procedure, kept whole in memory: one vector of all changes, sorted."""
    change = plain_changes(members, strategy)
    # A stable sort takes the earlier of equals first, which is the order of (tensor name, flat index).
    order = torch.sort(change, descending=strategy != "bottom", stable=True).indices
    mask = torch.zeros(len(change), dtype=torch.bool)
    mask[order[: math.floor(Fraction(str(percent)) * len(change) / 100)]] = True
    parts = mask.split([base.numel() for _, base, _ in members])
    return [part.reshape(base.shape) for (_, base, _), part in zip(members, parts, strict=True)]


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
            patch.setattr(knowshift.pairs, "PIECE", 4)
            patch.setattr(knowshift.pairs, "SEGMENT", 8)
        if tabled:
            patch.setattr(knowshift.counting, "MANY", 0)
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
        monkeypatch.setattr(knowshift.pairs, "PIECE", 50)
        monkeypatch.setattr(knowshift.pairs, "SEGMENT", 100)
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
    monkeypatch.setattr(knowshift.counting, "MANY", many)
    met = knowshift.counting.Counter().distinct(held(members), LAYER, 0, 5000)
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
    monkeypatch.setattr(knowshift.counting, "MANY", many)
    every = triples(dtype=dtype)
    every[2][side][3, 4] = math.inf if side == 1 else math.nan
    for work in (lambda: summarise(held(every), "all"), lambda: select(held(every), "absolute", "all", [5])):
        with pytest.raises(KnowshiftError, match=f"{every[2][0]} has values {['before', 'after'][side - 1]} training"):
            work()
    same = torch.full((100,), math.nan, dtype=dtype)  # equal bits
    with pytest.raises(KnowshiftError, match="before training"):
        summarise(held([(LAYER, same, same)]), "all")


# --- deltas ---


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=50), st.randoms(use_true_random=False))
def test_any_bit_pattern_survives(values: list[float], draw) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        tuned = torch.tensor(values).to(dtype)
        base = torch.tensor(draw.sample(values, len(values))).to(dtype)
        back = decode_chunk(bits_of(base), encode_chunk(bits_of(base), bits_of(tuned)))
        assert np.array_equal(back, bits_of(tuned))


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
    every = triples(dtype=dtype)
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every), shards[0])
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every), shards[1])
    delta = make_delta(base, tuned, tmp_path / "delta")
    back = list(Delta(delta, base))
    assert [name for name, _, _ in back] == sorted(NAMES)
    assert all(np.array_equal(a, bits_of(b)) for (_, _, a), (_, _, b) in zip(back, every, strict=True))
    assert len(list(delta.glob("delta-*"))) == shards[1]
    other = write_model(tmp_path / "other", ((n, t) for n, _, t in every))
    with pytest.raises(KnowshiftError, match="other weights"):
        Delta(delta, other)


def test_models_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    every = triples()
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every))
    fewer = write_model(tmp_path / "fewer", ((n, t) for n, _, t in every[1:]))
    with pytest.raises(KnowshiftError, match=every[0][0]):
        make_delta(base, fewer, tmp_path / "d1")
    wider = write_model(tmp_path / "wider", ((n, t if i else t[:5].clone()) for i, (n, _, t) in enumerate(every)))
    with pytest.raises(KnowshiftError, match=r"\[17, 23\].*\[5, 23\]"):
        make_delta(base, wider, tmp_path / "d2")
    broken = write_model(tmp_path / "broken", ((n, t if i else t * torch.nan) for i, (n, _, t) in enumerate(every)))
    for number, (sides, when) in enumerate({(base, broken): "after", (broken, base): "before"}.items()):
        with pytest.raises(KnowshiftError, match=f"{every[0][0]} has values {when} training that are not finite"):
            make_delta(*sides, tmp_path / f"d3{number}")
    embedding = [(n, t[:5].clone() if "embed" in n else t) for n, _, t in every]
    with pytest.raises(KnowshiftError, match=r"embed_tokens.*resized"):
        of_directories(base, write_model(tmp_path / "resized", embedding))
    assert not list(tmp_path.glob("*d[123]*"))


def test_tied_embeddings_count_once(tmp_path: Path) -> None:
    every = triples()
    head = [("lm_head.weight", base, tuned) for name, base, tuned in every if "embed" in name]
    base = write_model(tmp_path / "base", ((n, b.clone()) for n, b, _ in every + head))
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every))
    with pytest.raises(KnowshiftError, match=r"only .*base has the tensor lm_head"):
        of_directories(base, tuned)
    (base / "config.json").write_text('{"tie_word_embeddings": true}')
    assert list(of_directories(base, tuned).within("embedding").shapes) == ["model.embed_tokens.weight"]


@pytest.mark.parametrize(
    "dtypes", [(torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)]
)
def test_directories_and_deltas_give_the_same_pairs(tmp_path: Path, dtypes, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((knowshift.pairs, "PIECE"), (knowshift.deltas, "CHUNK")):
        monkeypatch.setattr(module, name, 100)
    every = triples()
    base = write_model(tmp_path / "base", ((n, b.to(dtypes[0])) for n, b, _ in every), 2)
    tuned = write_model(tmp_path / "tuned", ((n, t.to(dtypes[1])) for n, _, t in every), 3)
    delta = make_delta(base, tuned, tmp_path / "delta")
    expected = held([(n, b.to(dtypes[0]).to(dtypes[1]), t.to(dtypes[1])) for n, b, t in every])
    for pairs in (open_pairs(base, tuned=tuned), open_pairs(base, delta=delta)):
        assert pairs.shapes == expected.shapes and pairs.dtypes == expected.dtypes
        assert select(pairs, "top", "all", [10, 50], threads=2) == select(expected, "top", "all", [10, 50])


def test_selecting_loads_no_torch(tmp_path: Path) -> None:
    every = triples(dtype=torch.bfloat16)
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every))
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every))
    script = Path(__file__).parents[1] / "scripts/select_updates.py"
    command = ["--base", base, "--tuned", tuned, "--output", tmp_path / "selections.parquet"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", script, *command], check=True, capture_output=True, text=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "numpy" in loaded and "torch" not in loaded


@pytest.mark.parametrize("shards", [1, 2])
def test_exports_are_the_restored_model_in_the_shards_of_the_base(tmp_path: Path, shards: int) -> None:
    every = triples(dtype=torch.bfloat16)
    base = write_model(tmp_path / "base", ((n, b) for n, b, _ in every), shards)
    (base / "config.json").write_text('{"dtype": "float32"}')
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every), 3)
    command = ["--base", base, "--tuned", tuned, "--percent", "20", "--output", tmp_path / "restored"]
    script = Path(__file__).parents[1] / "scripts/export_model.py"
    subprocess.run([sys.executable, script, *command], check=True, capture_output=True)
    members = [triple for triple in every if in_region(triple[0], "transformer")]
    masks = dict(zip((n for n, _, _ in members), plain_masks(members, "top", 20), strict=True))
    restored = Weights(tmp_path / "restored")
    assert restored.shards() == Weights(base).shards()
    for name, before, after in every:
        expected = torch.where(masks[name], before, after) if name in masks else after
        assert np.array_equal(restored.read(name), bits_of(expected))
    selection = json.loads((tmp_path / "restored/selection.json").read_text())
    assert selection["n"] == 3 * 17 * 23 and selection["k_count"] == count_of(3 * 17 * 23, 20)
    assert selection["restored_per_tensor"] == {name: int(mask.sum()) for name, mask in masks.items()}
    card = (tmp_path / "restored/README.md").read_text()
    assert "`transformer`" in card and "/tuned`, whose base is `base`" in card and "base_model" not in card
    assert json.loads((base / "config.json").read_text())["dtype"] == "float32"
    assert not (tmp_path / "restored/config.json").exists()  # taken from the tuned model, which has none


def test_the_benchmarks_reference_restores_as_many_of_each_tensor(tiny_model: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    draw = torch.Generator().manual_seed(2)
    tuned = Path(shutil.copytree(tiny_model, tmp_path / "tuned"))
    moved = {name: value + 1e-3 * torch.randn(value.shape, generator=draw) for name, value in weights.items()}
    save_file(moved, tuned / "model.safetensors", {"format": "pt"})
    script = Path(__file__).parent / "benchmarks/restoring_in_memory.py"
    command = [sys.executable, script, "--base", tiny_model, "--tuned", tuned, "--percent", "20"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (selection,) = select(of_directories(tiny_model, tuned), "top", "transformer", [20])
    rows = selection.tensors.to_pylist()
    assert {row["tensor"]: row["restored"] for row in rows} == {
        name: int(count) for name, count in map(str.split, said.splitlines())
    }


def test_tensors_of_several_types_keep_their_own(tiny_model: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_model / "model.safetensors")
    moved = {
        name: (value * 1.01).to(torch.float32 if "norm" in name else torch.bfloat16) for name, value in weights.items()
    }
    tuned = write_model(tmp_path / "tuned", moved.items())
    delta = make_delta(tiny_model, tuned, tmp_path / "delta")
    back = {name: as_tensor(bits, Delta(delta, tiny_model).dtypes[name]) for name, _, bits in Delta(delta, tiny_model)}
    assert all(torch.equal(back[name], value) for name, value in moved.items())
    model = load_tuned(tiny_model, delta, "float32", "cpu")
    bfloat16 = {name: value.bfloat16().float() for name, value in moved.items()}  # as the model is computed
    assert all(torch.equal(parameter, bfloat16[name]) for name, parameter in model.named_parameters())
    load_restored(tiny_model, delta, "top", "all", 50, 0, "float32", "cpu")


def test_a_base_of_which_a_bit_flipped_is_noticed(tmp_path: Path) -> None:
    every = triples()
    with whole_directory(tmp_path / "base", {}) as folder:
        save_file({name: before for name, before, _ in every}, folder / "model.safetensors")
    base = tmp_path / "base"
    tuned = write_model(tmp_path / "tuned", ((n, t) for n, _, t in every))
    delta = make_delta(base, tuned, tmp_path / "delta")
    open_pairs(base, delta=delta)
    whole = bytearray((base / "model.safetensors").read_bytes())
    whole[-1] ^= 1
    (base / "model.safetensors").write_bytes(whole)
    for how in ({"delta": delta}, {"tuned": tuned}):
        with pytest.raises(KnowshiftError, match=r"model\.safetensors is damaged.*snakemake --force"):
            open_pairs(base, **how)
    with pytest.raises(KnowshiftError, match=rf"tensor {every[-1][0]} in .*delta-00001.*damaged"):
        list(Delta(delta, base))


def test_a_damaged_delta_is_noticed_and_the_remedy_named(tmp_path: Path) -> None:
    every = triples()
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
