"""Regions: which tensors belong to them, by their names in several architectures."""

import pytest

from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.regions import (
    LONGEST_PATTERN,
    check_pattern,
    in_region,
    layer_and_module,
    layers_of,
    names_in_region,
)
from made_up_weights import NAMES


def test_regions_of_names() -> None:
    assert [name for name in NAMES if in_region(name, "transformer")] == NAMES[:3]
    assert [name for name in NAMES if in_region(name, "embedding")] == NAMES[5:]
    assert layer_and_module(NAMES[1]) == (0, "self_attn.q_proj")
    assert {name for name in NAMES[:3] if in_region(name, "attention")} | {
        n for n in NAMES[:3] if in_region(n, "mlp")
    } == set(NAMES[:3])
    assert names_in_region(NAMES, "0") == NAMES[:2] and names_in_region(NAMES, "1") == NAMES[2:3]
    assert names_in_region(NAMES, "0-1") == names_in_region(NAMES, "0,1") == names_in_region(NAMES, "transformer")
    assert names_in_region(NAMES, r"(q|v)_proj\.weight$") == NAMES[1:2]
    assert layers_of("0,5,7-9") == {0, 5, 7, 8, 9} and layers_of("2-2") == {2} and layers_of("layers") is None
    assert names_in_region(NAMES, "all") == NAMES
    assert layer_and_module("model.embed_tokens.weight") == (None, "model.embed_tokens")
    assert layer_and_module("scale") == (None, "scale")


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
        ("embed_out.weight", {"embedding"}),  # GPT-NeoX
        ("lm_head.bias", {"embedding"}),  # Phi
        ("model.layers.0.mlp.experts.gate_up_proj", {"transformer", "mlp"}),  # gpt-oss
        ("model.layers.0.self_attn.sinks", {"transformer", "attention"}),
        ("language_model.model.layers.3.mlp.up_proj.weight", {"transformer", "mlp"}),  # Gemma 3 with pictures
        ("vision_tower.vision_model.encoder.layers.0.self_attn.k_proj.weight", set()),
        ("vision_tower.vision_model.embeddings.patch_embedding.weight", set()),
        ("multi_modal_projector.mm_input_projection_weight", set()),
        ("model.visual.blocks.0.attn.qkv.weight", set()),  # Qwen 2.5 with pictures
    ],
)
def test_regions_of_other_architectures(name: str, regions: set[str]) -> None:
    assert {region for region in ("transformer", "attention", "mlp", "embedding") if in_region(name, region)} == regions


def test_experts_are_one_module_however_they_are_stored() -> None:
    alone, fused = "model.layers.1.mlp.experts.3.up_proj.weight", "model.layers.1.mlp.experts.gate_up_proj"
    assert layer_and_module(alone) == (1, "mlp.experts.up_proj")
    assert layer_and_module(fused) == (1, "mlp.experts.gate_up_proj")
    assert layer_and_module("vision_tower.encoder.layers.0.mlp.fc1.weight")[0] is None


def test_a_regular_expression_may_be_as_long_as_said_and_no_longer() -> None:
    check_pattern("a" * LONGEST_PATTERN)
    with pytest.raises(KnowshiftError, match=f"of {LONGEST_PATTERN + 1:,} characters; at most {LONGEST_PATTERN}"):
        check_pattern("a" * (LONGEST_PATTERN + 1))


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
        names_in_region(NAMES, region)
