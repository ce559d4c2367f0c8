"""Checkpoints that were fine-tuned elsewhere get the form of their base, or are refused in one line."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import foreign_checkpoints as elsewhere
import numpy as np
import pytest
import torch
from architectures import make
from safetensors.torch import load_file, save_file

from knowshift.allowed_values import STRATEGY_TRAITS
from knowshift.models.adapters import write_in_form_of_base
from knowshift.models.foreign import Checkpoint, differing_settings
from knowshift.models.tuned import load_tuned
from knowshift.restoration.export import export_restored
from knowshift.restoration.in_memory import RestoredModels
from knowshift.restoration.strategies import undo
from knowshift.runtime.artefacts import whole_directory
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.deltas import diff_weights, open_versions
from knowshift.weights.safetensors_files import WeightFiles

TEXT = torch.tensor([[1, 5, 9, 17, 33, 4]])
ARCHITECTURES = ["llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2"]
ARCHITECTURES += ["gpt2", "gpt_neox", "opt", "falcon"]


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(TEXT).logits


def brought(base: Path, tuned: Path, output: Path) -> Path:
    """The folder that a checkpoint becomes."""
    with whole_directory(output, {"kind": "model"}) as directory:
        write_in_form_of_base(base, tuned, directory)
    return output


def delta_of(base: Path, tuned: Path, output: Path) -> Path:
    facts: dict = {}
    with whole_directory(output, facts) as directory:
        facts |= diff_weights(base, tuned, directory)
    return output


def exported(
    base: Path, tuned: Path, delta: Path | None, percent: float, region: str, output: Path, strategy: str = "top"
) -> Path:
    """The folder of a restored model; weights after training come from a delta, or else from the folder `tuned`."""
    versions = open_versions(base, None if delta else tuned, delta)
    (undoing,) = undo(versions, strategy, region, [percent], 1)
    about = {"name": "x", "after": "y", "strategy": strategy, "region": region, "percent": percent, "seed": 1}
    output.mkdir()
    export_restored(output, base, tuned, versions, undoing, about)
    return output


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_architecture_from_names_to_restored_models(model_type: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    make(model_type).save_pretrained(base)
    tuned = elsewhere.tune(base, tmp_path / "tuned")
    wrapped = elsewhere.rename(elsewhere.copy(tuned, tmp_path / "wrapped"), lambda name: f"_orig_mod.module.{name}")
    ours = brought(base, wrapped, tmp_path / "ours")
    after, before = WeightFiles(tuned), WeightFiles(base)
    assert WeightFiles(ours).names() == before.names()
    assert all(np.array_equal(bits, after.read(name)) for name, bits in WeightFiles(ours))
    expected = logits(elsewhere.load(tuned))
    assert torch.equal(logits(elsewhere.load(ours)), expected)
    folder = exported(base, ours, None, 100, "all", tmp_path / "exported")
    assert torch.equal(logits(elsewhere.load(folder)), logits(elsewhere.load(base)))
    delta = delta_of(base, ours, tmp_path / "delta")
    assert torch.equal(logits(load_tuned(base, delta, "float32", "cpu")), expected)
    restored = RestoredModels(base, delta)
    restored.undo("top", "all", [0, 100], 1)
    assert torch.equal(logits(restored.make(0, "float32", "cpu")), expected)
    assert torch.equal(logits(restored.make(100, "float32", "cpu", last=True)), logits(elsewhere.load(base)))


def without(prefix: str) -> Callable[[str], str]:
    return lambda name: name.removeprefix(prefix)


def between_layers(name: str) -> str:
    return re.sub(r"(layers\.\d+\.)", r"\1_checkpoint_wrapped_module._orig_mod.", name)


PREFIXES = {
    "module": lambda name: f"module.{name}",
    "peft": lambda name: f"base_model.model.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "all of them": lambda name: f"module._orig_mod.base_model.model.{name}",
    "none": without("model."),
    "inside": between_layers,
}


@pytest.mark.parametrize("wrapper", PREFIXES)
def test_wrappers_of_training_programs_are_taken_off(wrapper: str, tmp_path: Path, tiny_model: Path) -> None:
    tuned = elsewhere.tune(tiny_model, tmp_path / "tuned")
    tables = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    wrapped = elsewhere.rename(elsewhere.copy(tuned, tmp_path / "wrapped"), PREFIXES[wrapper], tables)
    checkpoint = Checkpoint(tiny_model, wrapped)
    assert not checkpoint.loads_as_it_is and checkpoint.new_tokens == 0
    ours = brought(tiny_model, wrapped, tmp_path / "ours")
    assert load_file(ours / "model.safetensors").keys() == load_file(tiny_model / "model.safetensors").keys()
    assert torch.equal(logits(elsewhere.load(ours)), logits(elsewhere.load(tuned)))
    again = Checkpoint(tiny_model, ours)
    assert again.loads_as_it_is and again.has_form_of_base
    # The other way round: tables that only the base has are the base's afterwards, so that names agree.
    base = elsewhere.rename(elsewhere.copy(tiny_model, tmp_path / "base"), str, tables)
    again = brought(base, tuned, tmp_path / "with tables")
    assert WeightFiles(again).names() == WeightFiles(base).names()
    assert Checkpoint(base, again).has_form_of_base and not Checkpoint(base, tuned).has_form_of_base
    delta_of(base, again, tmp_path / "delta")


def test_shards_types_tables_and_stored_heads_change_nothing(tmp_path: Path, tiny_model: Path) -> None:
    tuned = elsewhere.tune(tiny_model, tmp_path / "tuned")
    model = elsewhere.load(tuned).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "half", max_shard_size="50KB")
    assert len(list((tmp_path / "half").glob("*.safetensors"))) > 2
    ours = brought(tiny_model, tmp_path / "half", tmp_path / "ours")
    assert set(WeightFiles(ours).names()) == set(WeightFiles(tiny_model).names())
    assert {tensor.dtype for tensor in WeightFiles(ours).tensors.values()} == {"bfloat16"}
    assert len(list(ours.glob("*.safetensors"))) == len(list((tmp_path / "half").glob("*.safetensors")))
    assert torch.equal(logits(elsewhere.load(ours)), logits(elsewhere.load(tmp_path / "half")))
    assert (ours / "tokenizer.json").read_bytes() == (tiny_model / "tokenizer.json").read_bytes()
    head = load_file(tuned / "model.safetensors")["model.embed_tokens.weight"].clone()
    stored = elsewhere.rename(elsewhere.copy(tuned, tmp_path / "stored"), str, {"lm_head.weight": head})
    for tied in (True, False):
        checkpoint = Checkpoint(tiny_model, elsewhere.configure(stored, tie_word_embeddings=tied))
        assert checkpoint.new_tokens == 0
        ours = brought(tiny_model, stored, tmp_path / f"with head {tied}")
        assert "lm_head.weight" not in load_file(ours / "model.safetensors")
        assert json.loads((ours / "config.json").read_text())["tie_word_embeddings"] is True
        assert torch.equal(logits(elsewhere.load(ours)), logits(elsewhere.load(tuned)))


def grown_and_untied(model: elsewhere.PreTrainedModel) -> None:
    elsewhere.untie(model)
    elsewhere.grow(model)


CHANGES = {"grown": elsewhere.grow, "untied": elsewhere.untie, "both": grown_and_untied}


@pytest.mark.parametrize("from_delta", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_new_rows_and_heads_stay_in_deltas_restored_models_and_exports(
    change: str, from_delta: bool, tmp_path: Path, tiny_model: Path
) -> None:
    tuned = elsewhere.tune(tiny_model, tmp_path / "tuned", CHANGES[change])
    ours = brought(tiny_model, tuned, tmp_path / "ours")
    expected = elsewhere.load(tuned)
    assert torch.equal(logits(elsewhere.load(ours)), logits(expected))
    delta = delta_of(tiny_model, ours, tmp_path / "delta")
    assert torch.equal(logits(load_tuned(tiny_model, delta, "float32", "cpu")), logits(expected))
    # All common parameters restored: the base's logits, and further columns for the new tokens.
    before = logits(elsewhere.load(tiny_model))
    restored = RestoredModels(tiny_model, delta)
    restored.undo("top", "all", [20, 100], 1)
    given = [tiny_model, ours, delta if from_delta else None]
    for percent in (20, 100):
        made = logits(restored.make(percent, "float32", "cpu", last=percent == 100))
        folder = exported(*given, percent, "all", tmp_path / f"exported {percent}")
        assert torch.equal(logits(elsewhere.load(folder)), made)
    assert torch.equal(made[..., : before.shape[-1]], before)
    assert made.shape == logits(expected).shape
    embedding = expected.get_output_embeddings().weight[before.shape[-1] :]
    assert torch.equal(elsewhere.load(folder).get_output_embeddings().weight[before.shape[-1] :], embedding)
    assert not torch.equal(made[..., : before.shape[-1]], logits(expected)[..., : before.shape[-1]])


@pytest.mark.parametrize("strategy", [name for name, one in STRATEGY_TRAITS.items() if not one.other_seeds])
def test_every_way_to_undo_leaves_new_rows_and_ends_at_the_base(
    strategy: str, tmp_path: Path, tiny_model: Path
) -> None:
    tuned = elsewhere.tune(tiny_model, tmp_path / "tuned", grown_and_untied)
    ours = brought(tiny_model, tuned, tmp_path / "ours")
    delta = delta_of(tiny_model, ours, tmp_path / "delta")
    before, after = (logits(elsewhere.load(folder)) for folder in (tiny_model, tuned))
    tokens = before.shape[-1]
    restored, seen = RestoredModels(tiny_model, delta), {}
    restored.undo(strategy, "all", [0, 40, 100], 1)
    for percent in (0, 40, 100):
        seen[percent] = logits(restored.make(percent, "float32", "cpu", last=percent == 100))
        given = (tiny_model, ours, delta, percent, "all")
        folder = exported(*given, tmp_path / f"exported {percent}", strategy)
        assert torch.equal(logits(elsewhere.load(folder)), seen[percent])
        for name in ("get_input_embeddings", "get_output_embeddings"):
            rows = [getattr(elsewhere.load(one), name)().weight[tokens:] for one in (folder, tuned)]
            assert torch.equal(*rows) and len(rows[0]) == 3
    assert torch.equal(seen[0], after) and torch.equal(seen[100][..., :tokens], before)
    assert not torch.equal(seen[40], seen[0]) and not torch.equal(seen[40], seen[100])


def test_models_of_other_seeds_have_the_same_tensors(tmp_path: Path, tiny_model: Path) -> None:
    tuned, others = elsewhere.tune(tiny_model, tmp_path / "tuned", elsewhere.untie), []
    for name, change in {"grown": grown_and_untied, "tied": None}.items():
        others.append(open_versions(tiny_model, tuned=elsewhere.tune(tiny_model, tmp_path / name, change)))
    versions = open_versions(tiny_model, tuned=tuned)
    undo(versions, "sign_agreeing", "all", [20], others=others[:1])
    with pytest.raises(KnowshiftError, match=r"a model of --others has no tensor lm_head\.weight of this shape"):
        undo(versions, "sign_agreeing", "all", [20], others=others)


def test_an_exported_model_that_is_put_in_again_gives_the_same_delta(tmp_path: Path, tiny_model: Path) -> None:
    tuned = elsewhere.tune(tiny_model, tmp_path / "tuned")
    delta = delta_of(tiny_model, tuned, tmp_path / "delta")
    folder = exported(tiny_model, tuned, delta, 0, "transformer", tmp_path / "exported")
    again = delta_of(tiny_model, brought(tiny_model, folder, tmp_path / "ours"), tmp_path / "again")
    names = sorted(path.name for path in delta.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert all((delta / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_a_head_that_only_the_base_has_is_the_embedding_afterwards(tmp_path: Path, tiny_model: Path) -> None:
    base = elsewhere.tune(tiny_model, tmp_path / "base", elsewhere.untie)
    tied = elsewhere.tune(tiny_model, tmp_path / "tied")
    ours = brought(base, tied, tmp_path / "ours")
    assert json.loads((ours / "config.json").read_text())["tie_word_embeddings"] is False
    assert torch.equal(logits(elsewhere.load(ours)), logits(elsewhere.load(tied)))
    delta = delta_of(base, ours, tmp_path / "delta")
    assert torch.equal(logits(load_tuned(base, delta, "float32", "cpu")), logits(elsewhere.load(tied)))


def test_a_configuration_that_computes_otherwise_is_named(tmp_path: Path, tiny_model: Path) -> None:
    tuned = elsewhere.tune(tiny_model, tmp_path / "tuned", elsewhere.grow)
    assert differing_settings(tiny_model, tuned) == []
    elsewhere.configure(tuned, rope_parameters={"rope_type": "default", "rope_theta": 5000.0})
    assert differing_settings(tiny_model, tuned) == ["rope_parameters.rope_theta: 10000.0 → 5000.0"]


def shrunk(model: elsewhere.PreTrainedModel) -> None:
    model.resize_token_embeddings(model.get_input_embeddings().weight.shape[0] - 3)


def deeper(model: elsewhere.PreTrainedModel) -> None:
    model.model.layers.append(copy.deepcopy(model.model.layers[0]))
    model.config.num_hidden_layers += 1


def wider(model: elsewhere.PreTrainedModel) -> None:
    model.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(torch.ones(5, 64))


def reordered(folder: Path) -> None:
    text = json.loads((folder / "tokenizer.json").read_text())
    words = text["model"]["vocab"]
    words["▁Paris"], words["▁Rome"] = words["▁Rome"], words["▁Paris"]
    (folder / "tokenizer.json").write_text(json.dumps(text))


def quantised(folder: Path) -> None:
    elsewhere.configure(folder, quantization_config={"quant_method": "gptq", "bits": 4})


def packed(folder: Path) -> None:
    elsewhere.rename(folder, str, {"model.layers.0.mlp.up_proj.qweight": torch.ones(3, dtype=torch.int32)})


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def nested(folder: Path) -> None:
    for name in ("checkpoint-90", "checkpoint-100"):
        shutil.copytree(folder, folder.parent / name)
    shutil.rmtree(folder)
    for name in ("checkpoint-90", "checkpoint-100"):
        shutil.move(folder.parent / name, folder / name)


def unmerged(folder: Path) -> None:
    elsewhere.rename(folder, str, {"model.layers.0.mlp.up_proj.lora_A.default.weight": torch.ones(3, 4)})


def valued(folder: Path) -> None:
    elsewhere.rename(folder, str, {"v_head.summary.weight": torch.ones(1, 64)})


def partial(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors")


def both(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def unknown(folder: Path) -> None:
    elsewhere.configure(folder, model_type="no_such_model")


def linked(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_text("a file of the user's")
    (folder / "tokenizer_notes.txt").symlink_to(secret)


def licensed(folder: Path) -> None:
    linked(folder)
    (folder / "tokenizer_notes.txt").rename(folder / "LICENSE.txt")


def broken(folder: Path) -> None:
    (folder / "config.json").write_text("{")


REFUSED: dict[str, tuple[Callable | None, Callable | None, str]] = {
    "shrunk": (shrunk, None, "embed_tokens.weight is .* the vocabulary shrank"),
    "deeper": (deeper, None, "only .*tuned has the tensor model.layers.2"),
    "wider": (wider, None, r"up_proj.weight is \[128, 64\] in .* but \[5, 64\]"),
    "reordered": (None, reordered, "in another order: token '▁Paris' is number"),
    "quantised": (None, quantised, r"are quantised \(GPTQ\)"),
    "packed": (None, packed, "are quantised .*qweight"),
    "pickled": (None, pickled, r"\.bin only.*convert it with: python -c"),
    "nested": (None, nested, "give one of them, such as .*checkpoint-100"),
    "unmerged": (None, unmerged, "an adapter that was not merged"),
    "valued": (None, valued, "only .*tuned has the tensor v_head.summary.weight"),
    "partial": (None, partial, "only .*tiny has the tensor model.norm.weight"),
    "both": (None, both, "holds an adapter .* beside the weights"),
    "unknown": (None, unknown, "transformers cannot read .*config.json"),
    "linked": (None, linked, "tokenizer_notes.txt is a link to .*secret, which lies outside"),
    "licensed": (None, licensed, "LICENSE.txt is a link to .*secret, which lies outside"),
    "broken": (None, broken, "config.json: not valid JSON"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_refused_by_name_and_in_one_line(
    case: str, tmp_path: Path, tiny_model: Path
) -> None:
    change, spoil, message = REFUSED[case]
    tuned = elsewhere.tune(tiny_model, tmp_path / "tuned", change)
    if spoil:
        spoil(tuned)
    with pytest.raises(KnowshiftError, match=message) as caught:
        brought(tiny_model, tuned, tmp_path / "ours")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_the_command_that_a_refusal_names_converts_the_checkpoint(tmp_path: Path, tiny_model: Path) -> None:
    """The tuned weights come back bit for bit after the conversion that the message prints."""
    tuned = elsewhere.tune(tiny_model, tmp_path / "tuned")
    tensors = load_file(tuned / "model.safetensors")
    torch.save(tensors, tuned / "pytorch_model.bin")
    (tuned / "model.safetensors").unlink()
    with pytest.raises(KnowshiftError) as caught:
        Checkpoint(tiny_model, tuned)
    found = re.search(r'python -c "(.*)", and copy its tokenizer to (.*)', str(caught.value))
    assert found
    exec(found[1].replace("'tuned-safetensors'", f"'{tmp_path}/{found[2]}'"), {})
    Checkpoint(tiny_model, tmp_path / found[2])
    assert torch.equal(
        load_file(tmp_path / found[2] / "model.safetensors")["model.norm.weight"], tensors["model.norm.weight"]
    )
