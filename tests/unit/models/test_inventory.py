"""What stored tensors are to their model: masks and tables that a file holds beside the parameters are in no region."""

import json
import math
from pathlib import Path

import pytest
import torch
from architectures import make
from safetensors.torch import load_file, save_file

from knowshift.models.admission import check_admission
from knowshift.models.inventory import stored_without_parameter
from knowshift.restoration.strategies import undo
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.deltas import Delta, diff_weights
from knowshift.weights.parameter_counts import stored_parameters
from knowshift.weights.safetensors_files import NO_PARAMETERS, WeightFiles
from knowshift.weights.versions import versions_in_directories

MASK = torch.ones(1, 1, 64, 64)
# By model type: the tensors beside the parameters that files of the hub hold.
TABLES = {
    "gpt2": {"transformer.h.0.attn.bias": MASK, "transformer.h.1.attn.masked_bias": torch.tensor(-1e4)},
    "gpt_neox": {
        "gpt_neox.layers.0.attention.bias": MASK.bool(),
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e4),
        "gpt_neox.layers.1.attention.rotary_emb.inv_freq": torch.ones(4),
    },
    "gpt_neo": {"transformer.h.0.attn.attention.bias": MASK.bool()},
    "gptj": {"transformer.h.1.attn.bias": MASK, "transformer.h.0.attn.masked_bias": torch.tensor(-1e9)},
    "codegen": {"transformer.h.0.attn.causal_mask": MASK},
    "llama": {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
    "opt": {},
}


def save(model_type: str, folder: Path, tables: dict[str, torch.Tensor], prefix: str = "") -> Path:
    """Save a tiny model as a file of the hub, with tables among its weights and without a prefix of its names."""
    make(model_type).save_pretrained(folder)
    tensors = {**load_file(folder / "model.safetensors"), **tables}
    tensors = {name.removeprefix(prefix): tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("model_type", TABLES)
def test_tables_are_told_from_parameters(model_type: str, tmp_path: Path) -> None:
    folder = save(model_type, tmp_path / "model", TABLES[model_type])
    assert stored_without_parameter(folder) == sorted(TABLES[model_type])
    manifest = {"files": {}, NO_PARAMETERS: stored_without_parameter(folder)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert stored_parameters(folder) == make(model_type).num_parameters()


def test_names_without_the_prefix_of_the_base_model(tmp_path: Path) -> None:
    """GPT-2 on the hub; all of its real biases stay parameters."""
    folder = save("gpt2", tmp_path / "model", TABLES["gpt2"], "transformer.")
    assert stored_without_parameter(folder) == ["h.0.attn.bias", "h.1.attn.masked_bias"]


def test_a_table_is_in_no_region_whatever_reads_it(tmp_path: Path) -> None:
    """Compared folders, deltas and selections count the parameters of the model, with a manifest and without."""
    tables = {**TABLES["gpt_neox"], "gpt_neox.layers.1.attention.lookup": torch.ones(3)}
    base = save("gpt_neox", tmp_path / "base", tables)
    tuned = save("gpt_neox", tmp_path / "tuned", tables)
    parameters = make("gpt_neox").num_parameters()
    assert sum(map(math.prod, versions_in_directories(base, tuned).within("all").shapes.values())) == parameters + 3
    (base / "manifest.json").write_text(json.dumps({"files": {}, NO_PARAMETERS: sorted(tables)}))
    assert set(WeightFiles(base).tensors) - WeightFiles(base).no_parameters == {
        name for name in load_file(base / "model.safetensors") if name not in tables
    }
    (tmp_path / "delta").mkdir()
    facts = diff_weights(base, tuned, tmp_path / "delta", 1)
    (tmp_path / "delta/manifest.json").write_text(json.dumps({"files": {}, "kind": "delta", **facts}))
    for versions in (versions_in_directories(base, tuned), Delta(tmp_path / "delta", base).versions()):
        assert set(tables) <= set(versions.shapes)  # they are kept, and written back by an export
        (all_of_them,) = undo(versions, "top", "all", [100.0], 1, 1)
        assert all_of_them.parameters == parameters
        attention = {"gpt_neox.layers.0.attention.dense.bias", "gpt_neox.layers.0.attention.dense.weight"}
        names = set(versions.within("attention").shapes)
        assert attention <= names and not names & set(tables)


def test_a_configuration_that_makes_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = save("llama", tmp_path / "model", {})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 5, "hidden_act": "no such"}))
    with pytest.raises(KnowshiftError, match="transformers cannot make a causal language model of") as caught:
        stored_without_parameter(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [[], {}, 7, None])
def test_a_type_that_is_no_name_is_refused(kind: object, tmp_path: Path) -> None:
    save("llama", tmp_path, {})
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": kind}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for read in (stored_without_parameter, check_admission):
        with pytest.raises(KnowshiftError, match="which is no name"):
            read(tmp_path)
