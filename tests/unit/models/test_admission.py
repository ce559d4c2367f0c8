"""Every type of model is admitted as transformers saves it, and loaded only if all of its tensors were there."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from architectures import MODEL_TYPES, make
from safetensors.torch import load_file, save_file

from knowshift.models.admission import check_admission
from knowshift.models.loading import check_model, load_model
from knowshift.models.sources import resolve
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.safetensors_files import WeightFiles


@pytest.mark.slow
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_type_of_model_is_admitted_as_it_is_saved(model_type: str, tmp_path: Path) -> None:
    make(model_type).save_pretrained(tmp_path)
    check_admission(tmp_path)


def cut(folder: Path, part: str) -> None:
    """Take the tensors with a part in their names out of a model's file."""
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if part not in name}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(("model_type", "part"), [("gpt2", "h.1.mlp"), ("mixtral", "layers.0.mlp.experts.1.")])
def test_what_lacks_a_part_is_not_admitted(model_type: str, part: str, tmp_path: Path) -> None:
    """Also where the file names tensors otherwise than the model: GPT-2's prefix, experts that memory holds as one."""
    make(model_type).save_pretrained(tmp_path)
    names = WeightFiles(tmp_path).names()
    part = part if any(part in name for name in names) else part.replace(".mlp.", ".block_sparse_moe.")
    cut(tmp_path, part)
    with pytest.raises(KnowshiftError) as caught:
        check_admission(tmp_path)
    assert "\n" not in str(caught.value)


def test_loading_itself_refuses_what_a_manifest_hides(tmp_path: Path) -> None:
    """Whoever made the folder may have written its manifest, so a model in memory is never partly random."""
    make("llama").save_pretrained(tmp_path)
    cut(tmp_path, "lm_head")
    (tmp_path / "manifest.json").write_text('{"files": {}}')
    check_model(tmp_path)
    with pytest.raises(KnowshiftError, match=r"lacks 1 tensor \(lm_head.weight\) of its model, which would be random"):
        load_model(tmp_path, "float32")


def test_loading_gives_the_tensors_of_the_file(tmp_path: Path) -> None:
    made = make("gpt_neox")
    made.save_pretrained(tmp_path)
    loaded = dict(load_model(tmp_path, "float32").named_parameters())
    assert all(torch.equal(loaded[name], one) for name, one in made.named_parameters())


def test_one_set_of_weights_is_taken_from_a_folder(tmp_path: Path) -> None:
    """Variants, weights of other libraries and those in folders are left out, as transformers leaves them."""
    source, output = tmp_path / "source", tmp_path / "output"
    make("llama").save_pretrained(source, max_shard_size="30KB")
    shards = {path.name for path in source.glob("model-*.safetensors")}
    assert len(shards) > 1
    (source / "original").mkdir()
    for other in ("consolidated.safetensors", "model.fp16-00001-of-00001.safetensors", "original/model.safetensors"):
        shutil.copy(source / sorted(shards)[0], source / other)
    output.mkdir()
    resolve({"directory": str(source)}, output)
    assert {path.name for path in output.glob("**/*.safetensors")} == shards
    check_admission(output)


def test_a_model_with_an_index_for_one_file(tmp_path: Path) -> None:
    source, output = tmp_path / "source", tmp_path / "output"
    make("llama").save_pretrained(source)
    names = load_file(source / "model.safetensors")
    index = {"weight_map": dict.fromkeys(names, "model.safetensors")}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    output.mkdir()
    resolve({"directory": str(source)}, output)
    check_admission(output)
