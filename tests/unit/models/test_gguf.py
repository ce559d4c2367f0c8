"""A local GGUF file becomes a model directory with the weights that stand in it, whatever lies beside it."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from architectures import make
from transformers import PreTrainedModel
from words import SIZE, byte_tokenizer

from knowshift.models.admission import check_admission
from knowshift.models.loading import load_model, load_tokenizer
from knowshift.models.sources import resolve
from knowshift.runtime.errors import KnowshiftError

LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
NAMES |= {f"model.layers.{n}.{ours}": f"blk.{n}.{theirs}" for n in range(2) for ours, theirs in LAYER.items()}


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Order the rows of queries or keys as llama.cpp does: the halves that rotate together stand side by side."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write(path: Path, model: PreTrainedModel, quantised: bool = False) -> Path:
    """Write a tiny LLaMA as llama.cpp's converter does."""
    writer, config, words = gguf.GGUFWriter(path, "llama"), model.config, byte_tokenizer(merges=[("Ġ", "J")])
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(SIZE)
    tokens = [*sorted(words.get_vocab(), key=words.get_vocab().__getitem__)]
    tokens += [f"<unused{number}>" for number in range(SIZE - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in ("<s>", "</s>") or token.startswith("<unused") else 1 for token in tokens])
    writer.add_token_merges(["Ġ J"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if ".q_proj" in name or ".k_proj" in name:
            heads = config.num_attention_heads if ".q_proj" in name else config.num_key_value_heads
            values = interleaved(values, heads)
        stored = f"{NAMES[name.removesuffix('.weight')]}.weight"
        if quantised and values.ndim > 1 and values.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(stored, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(stored, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("quantised", [False, True])
def test_a_gguf_file_gives_the_weights_that_stand_in_it(quantised: bool, tmp_path: Path) -> None:
    model, output = make("llama", vocab_size=SIZE), tmp_path / "base"
    path = write(tmp_path / "tiny-Q8_0.gguf", model, quantised)
    (tmp_path / "config.json").write_text("{}")  # what lies beside it does not count
    (tmp_path / "tokenizer_config.json").write_text("{")
    output.mkdir()
    resolve({"gguf": str(path)}, output)
    check_admission(output)
    loaded, given = load_model(output, "float32"), dict(model.named_parameters())
    for name, parameter in loaded.named_parameters():
        if quantised:
            assert (parameter - given[name]).abs().max() <= 0.02, name
        else:
            assert torch.equal(parameter, given[name]), name
    words = load_tokenizer(output)
    assert words.decode(words("Größe", add_special_tokens=False)["input_ids"]) == "Größe"
    assert words.eos_token_id == 1
    assert str(tmp_path) not in "".join(file.read_text() for file in output.glob("*.json"))
    again = tmp_path / "again"
    again.mkdir()
    resolve({"gguf": str(path)}, again)
    for file in output.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.gguf", b"", "is no GGUF file"),
        ("a.gguf", b"PK\3\4" + bytes(100), "is no GGUF file"),
        ("a.gguf", b"GGUF" + bytes(10), "cannot convert the GGUF file of a"),
        ("a.gguf", b"GGUF" + b"\3\0\0\0" + b"\xff" * 64, "cannot convert the GGUF file of a"),
        ("a-00001-of-00002.gguf", b"GGUF" + bytes(10), "is part 1 of 2; join"),
    ],
)
def test_what_is_no_gguf_file_is_refused_in_one_line(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KnowshiftError) as caught:
        resolve({"gguf": str(tmp_path / name)}, tmp_path / "base")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(KnowshiftError, match="cannot be read"):
        resolve({"gguf": str(tmp_path / "none.gguf")}, tmp_path / "base")


def test_a_byte_order_mark_is_left_out_and_a_link_to_nowhere_named(tmp_path: Path) -> None:
    """Files as other tools leave them, in a folder that is taken over."""
    source, output = tmp_path / "source", tmp_path / "base"
    make("llama", vocab_size=SIZE).save_pretrained(source)
    byte_tokenizer().save_pretrained(source)
    for name in ("config.json", "tokenizer_config.json"):
        (source / name).write_text((source / name).read_text(), encoding="utf-8-sig")
    output.mkdir()
    resolve({"directory": str(source)}, output)
    assert json.loads((output / "config.json").read_text())["model_type"] == "llama"
    check_admission(output)
    (source / "extra.json").symlink_to(tmp_path / "nowhere")
    again = tmp_path / "again"
    again.mkdir()
    with pytest.raises(KnowshiftError, match=r"extra\.json is a link that leads nowhere"):
        resolve({"directory": str(source)}, again)
