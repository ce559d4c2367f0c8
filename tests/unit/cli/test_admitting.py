"""A model is tried once, when it is taken over: what later stages read of it, and what is said in one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import make
from safetensors.torch import load_file, save_file
from words import SIZE, byte_tokenizer

from cli import admitting
from cli.admitting import admit
from cli.expectations import Expected
from knowshift.models.admission import ADMISSION, tried
from knowshift.runtime.errors import KnowshiftError

REPOSITORY = Path(__file__).parents[3]
PROMPT = REPOSITORY / "resources/prompt.yaml"


def save(folder: Path, model_type: str = "llama", words: Any = None, **sizes: object) -> Path:
    """Save a tiny model with a tokenizer that knows every text."""
    made = make(model_type, vocab_size=SIZE, **sizes)
    made.generation_config.eos_token_id = None
    made.save_pretrained(folder)
    (words or byte_tokenizer()).save_pretrained(folder)
    return folder


def refused(folder: Path, prompt: Path = PROMPT, **expected: Any) -> str:
    """Return the line that refuses a model."""
    with pytest.raises(KnowshiftError) as caught:
        admit(folder, Expected.model_validate(expected), prompt)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "attention", "positions", "packs", "engines"),
    [
        ("llama", "sdpa", None, True, ["generate", "torch"]),
        ("gpt2", "sdpa", 256, True, ["generate", "torch"]),
        ("opt", "sdpa", 256, False, ["generate", "torch"]),
        ("gemma2", "eager", None, True, ["generate", "torch"]),
        ("bloom", "eager", None, False, ["generate"]),
        ("mamba", "eager", None, False, ["generate"]),
        ("mixtral", "sdpa", None, True, ["generate", "torch"]),
    ],
)
def test_what_is_found_out_of_a_model(
    model_type: str, attention: str, positions: int | None, packs: bool, engines: list[str], tmp_path: Path
) -> None:
    found = admit(save(tmp_path, model_type), Expected(), PROMPT)
    assert found["type"] == model_type and found["eos"] == 1 and found["bos"] is True
    assert (found["positions"], found["packs"], found["engines"]) == (positions, packs, engines)
    assert found["attention"] == attention or model_type == "mamba"
    json.dumps(found)  # it goes into a manifest


def test_tied_parameters_and_the_policy_of_bos_are_noted(tmp_path: Path) -> None:
    folder = save(tmp_path / "tied", words=byte_tokenizer(adds_bos=False), tie_word_embeddings=True)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    found = admit(folder, Expected(), PROMPT)
    assert found["bos"] is False and found["tied"] == [["model.embed_tokens.weight", "lm_head.weight"]]
    assert admit(save(tmp_path / "untied"), Expected(), PROMPT)["tied"] == []


def test_a_tokenizer_must_be_there_end_a_text_and_fit_the_embedding(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", words=byte_tokenizer(eos=None))
    assert "has no EOS token" in refused(folder)
    folder = save(tmp_path / "b")
    words = byte_tokenizer()
    words.add_special_tokens({"additional_special_tokens": [f"<|{number}|>" for number in range(100)]})
    words.save_pretrained(folder)
    line = refused(folder)
    assert "'<|99|>' with the id 357" in line and f"has {SIZE} rows" in line
    for path in folder.glob("tokenizer*"):
        path.unlink()
    line = refused(folder)
    assert "tokenizer" in line and "tokenizer.json" in line


def test_tokens_that_no_text_holds_need_no_row(tmp_path: Path) -> None:
    """Gemma 3 has one for pictures beyond the embedding of its text model, and others pad with one."""
    folder, words = save(tmp_path), byte_tokenizer()
    words.add_special_tokens(
        {"additional_special_tokens": [f"<unused{number}>" for number in range(SIZE - len(words))]}
    )
    words.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<image_soft_token>"]})
    assert len(words) > SIZE
    words.save_pretrained(folder)
    admit(folder, Expected(), PROMPT)


def test_the_prompt_and_the_chat_template_are_tried(tmp_path: Path) -> None:
    folder, prompt = save(tmp_path / "m"), tmp_path / "prompt.yaml"
    assert "no chat template" in refused(folder, chat={})
    template = "{% if messages[0].role != 'system' %}{{ raise_exception('a system message is required') }}{% endif %}"
    byte_tokenizer(chat=template).save_pretrained(folder)
    assert "a system message is required" in refused(folder, chat={})
    byte_tokenizer(chat="{{ messages[0].content }}{% if brief %}!{% endif %}").save_pretrained(folder)
    admit(folder, Expected.model_validate({"chat": {"template_args": {"brief": True}}}), PROMPT)
    assert "does not know breif" in refused(folder, chat={"template_args": {"breif": True}})
    prompt.write_text('prompt: "Q: {question} A: "\nanswer: "{object}"\n')
    byte_tokenizer(merges=[("Ġ", "J")]).save_pretrained(folder)
    assert "joins the end of the prompt" in refused(folder, prompt)
    byte_tokenizer(bos=None).save_pretrained(folder)
    assert "bos is always" in refused(folder, prompt, bos="always")


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"regions": ["transformer", "lm_heads"]}, "no tensor is in the region 'lm_heads'"),
        ({"regions": ["40-45"]}, "the model has no layer 40; it has 2, from 0"),
        ({"adapters": [{"targets": ["query_key_value"]}]}, "finetuning.lora.targets"),
        ({"adapters": [{"rank": 512}]}, "finetuning.lora.rank is 512"),
        ({"engines": ["torch"]}, None),
        ({"attention": "eager", "engines": ["generate"]}, None),
    ],
)
def test_what_an_experiment_will_ask_is_tried(expected: dict, said: str | None, tmp_path: Path) -> None:
    folder = save(tmp_path)
    if said is None:
        admit(folder, Expected.model_validate(expected), PROMPT)
    else:
        assert said in refused(folder, **expected)


def test_an_engine_that_cannot_run_the_model_is_named_with_one_that_can(tmp_path: Path) -> None:
    folder = save(tmp_path, "bloom")
    assert f"engine: torch cannot run {folder}; set engine: generate" in refused(folder, engines=["torch"])
    assert "BloomForCausalLM has none in transformers; set attention: eager" in refused(folder, attention="sdpa")
    admit(folder, Expected(engines=["generate"]), PROMPT)


def test_a_pass_must_give_numbers(tmp_path: Path) -> None:
    folder = save(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    large = {name: tensor * 1e5 if "up_proj" in name else tensor for name, tensor in tensors.items()}
    save_file(large, folder / "model.safetensors", {"format": "pt"})
    assert "float16 overflows in this model: set dtype: bfloat16 or float32" in refused(folder, dtypes=["float16"])
    admit(folder, Expected(dtypes=["float32"]), PROMPT)
    half = {name: tensor.half().clamp(-6e4, 6e4) for name, tensor in large.items()}
    save_file(half, folder / "model.safetensors", {"format": "pt"})
    admit(folder, Expected(), PROMPT)  # nothing says that it will be asked in float16, and float32 is finite
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert "weights are damaged" in refused(folder)


def test_a_model_that_memory_does_not_hold_is_left_to_the_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admitting, "available_memory", lambda: 1000)
    found = admit(save(tmp_path, "bloom"), Expected(engines=["torch"]), PROMPT)
    assert "engines" not in found and found["eos"] == 1


@pytest.mark.slow
def test_the_manifest_says_it_and_engines_read_it_there(tmp_path: Path) -> None:
    source, output = save(tmp_path / "source", "bloom"), tmp_path / "base"
    command = [sys.executable, str(REPOSITORY / "scripts/resolve_model.py"), "--output", str(output)]
    command += ["--source", json.dumps({"directory": str(source)})]
    done = subprocess.run([*command, "--engines", '["torch"]'], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"error: engine: torch cannot run {source}; set" in done.stderr.splitlines()[-1]
    assert not output.exists()
    done = subprocess.run([*command, "--engines", '["generate"]'], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest[ADMISSION] == tried(output) and tried(output)["engines"] == ["generate"]
    shutil.rmtree(source)
    (tmp_path / "q.jsonl").write_text('{"question": "Where ?", "answers": ["here"]}\n')
    command = [sys.executable, str(REPOSITORY / "scripts/evaluate.py"), "--model", str(output)]
    command += ["--questions", str(tmp_path / "q.jsonl"), "--output", str(tmp_path / "a.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "set engine: generate" in done.stderr.splitlines()[-1]
    done = subprocess.run([*command, "--engine", "generate"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
