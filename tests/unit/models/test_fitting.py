"""Regions and adapters against the names in a model's files, as the Snakefile is read; and the attention of a model."""

from pathlib import Path

import pytest
from architectures import MODEL_TYPES, make

from knowshift.configuration.finetuning import LoraSettings
from knowshift.finetuning.lora import add_adapters
from knowshift.models.fitting import check_names, stored_shapes
from knowshift.models.loading import load_model, use_attention
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.safetensors_files import WeightFiles

QUICK = ["llama", "gpt2", "gpt_neox", "mixtral", "opt"]


@pytest.mark.parametrize("model_type", QUICK)
def test_what_a_model_has_is_taken_and_what_it_lacks_is_named(model_type: str, tmp_path: Path) -> None:
    made = make(model_type)
    made.save_pretrained(tmp_path)
    shapes = stored_shapes(tmp_path)
    assert set(shapes) >= set(WeightFiles(tmp_path).names())
    check_names(shapes, ["transformer", "attention", "mlp", "0-1", "all"], ["all-linear"])
    with pytest.raises(KnowshiftError, match="the model has no layer 40; it has 2, from 0"):
        check_names(shapes, ["40-45"], [])
    with pytest.raises(KnowshiftError, match="no tensor is in the region 'lm_heads'"):
        check_names(shapes, ["lm_heads"], [])
    with pytest.raises(KnowshiftError, match="has no layer called no_such_proj; its layers are called"):
        check_names(shapes, [], [["no_such_proj"]])


@pytest.mark.parametrize("model_type", [*QUICK, *(pytest.param(t, marks=pytest.mark.slow) for t in ["phi3", "bloom"])])
def test_no_layer_that_can_be_adapted_is_refused(model_type: str, tmp_path: Path) -> None:
    assert model_type in MODEL_TYPES
    made = make(model_type)
    made.save_pretrained(tmp_path)
    shapes = stored_shapes(tmp_path)
    linear = {name.rpartition(".")[2] for name, layer in made.named_modules() if hasattr(layer, "weight")}
    for target in sorted(linear):
        try:
            add_adapters(make(model_type), LoraSettings(rank=2, targets=[target]))
        except KnowshiftError:
            continue
        check_names(shapes, [], [[target]])


def test_a_model_computes_with_the_attention_that_is_asked_for(tmp_path: Path) -> None:
    make("llama").save_pretrained(tmp_path)
    model = load_model(tmp_path, "float32")
    for attention, used in (("auto", "sdpa"), ("eager", "eager"), ("sdpa", "sdpa")):
        use_attention(model, attention)  # pyright: ignore[reportArgumentType]
        assert model.config._attn_implementation == used
        assert model.model.layers[0].self_attn.config._attn_implementation == used
    with pytest.raises(KnowshiftError, match="BloomForCausalLM has none in transformers; set attention: eager"):
        use_attention(make("bloom"), "sdpa")
