"""Tiny models of many architectures, with weights so large that scaling and caps of logits make a difference."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3Config, PreTrainedModel

VOCABULARY = 96
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LATENT = {
    "head_dim": None,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "v_head_dim": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
_MAMBA = {f"mamba_{name}": size for name, size in {"n_heads": 8, "d_head": 8, "n_groups": 1, "d_state": 8}.items()}
# What a type of model needs besides, or calls by another name; None leaves a size out.
MODEL_TYPES: dict[str, dict] = {
    "afmoe": _ROUTED,
    "apertus": {},
    "arcee": {},
    "bamba": {"attn_layer_indices": [1], "mamba_chunk_size": 16, **_MAMBA},
    "biogpt": {},
    "bitnet": {},
    "bloom": {},
    "codegen": {"n_ctx": 256, "rotary_dim": 4},
    "cohere": {"logit_scale": 0.5},
    "cohere2": {"logit_scale": 0.5},
    "ctrl": {},
    "cwm": {},
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "diffllama": {},
    "doge": {},
    "dots1": {**_LATENT, "head_dim": 8, "n_shared_experts": 1},
    "ernie4_5": {},
    "exaone4": {},
    "falcon": {"head_dim": None},
    "falcon_h1": {"mamba_chunk_size": 16, "mamba_d_ssm": 64, **_MAMBA},
    "falcon_mamba": {},
    "flex_olmo": _ROUTED,
    "gemma": {},
    "gemma2": {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8},
    "gemma3_text": {"query_pre_attn_scalar": 8},
    "glm": {},
    "glm4": {},
    "glm4_moe": {**_ROUTED, "n_routed_experts": 4},
    "gpt2": {},
    "gpt_bigcode": {},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4},
    "gpt_neox": {},
    "gpt_oss": _EXPERTS,
    "gptj": {"rotary_dim": 4},
    "granite": {"logits_scaling": 4.0, "embedding_multiplier": 2.0},
    "granitemoe": {"logits_scaling": 4.0, **_EXPERTS},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"],
        "shared_intermediate_size": 16,
        "logits_scaling": 4.0,
        "mamba_chunk_size": 16,
        **_MAMBA,
        **_EXPERTS,
    },
    "helium": {},
    "hunyuan_v1_dense": {},
    "jamba": {"num_experts": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    "llama": {},
    "llama4_text": {"intermediate_size_mlp": 48, "num_local_experts": 4},
    "mamba": {"state_size": 8},
    "mamba2": {"head_dim": 8, "num_heads": 8, "n_groups": 1, "state_size": 8, "chunk_size": 16},
    "ministral": {},
    "mistral": {},
    "mixtral": _EXPERTS,
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2},
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": {},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "openai-gpt": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "phimoe": {"num_local_experts": 4},
    "qwen2": {},
    "qwen2_moe": _ROUTED,
    "qwen3": {},
    "qwen3_moe": _ROUTED,
    "rwkv": {"attention_hidden_size": 32},
    "seed_oss": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
    "vaultgemma": {"query_pre_attn_scalar": 8},
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48},
}
# Causal language models of text that are not tried, and why.
NOT_TRIED = {
    "dbrx, gemma3n_text, gemma4_text, lfm2_moe, longcat_flash, minimax, nemotron_h, qwen3_next, zamba2": (
        "their configurations want a dozen sizes that fit each other; they share their loss and head with those above"
    ),
    "blt, xlnet": "they do not predict the next token of a text from its tokens alone",
    "bert, electra, roberta and other encoders": "they are decoders only where their configuration says so",
    "bart, pegasus and other pairs of encoder and decoder": "training needs an encoder's input",
    "gemma3, llama4, mllama and other models with vision": "their text model is tried by its own type",
}


def make(model_type: str, **more: object) -> PreTrainedModel:
    """Make a model of a type, in evaluation mode, with normal random weights of a standard deviation of 0.2."""
    sizes = {**_SIZES, **MODEL_TYPES[model_type], **more}
    config = AutoConfig.for_model(model_type, **{name: size for name, size in sizes.items() if size is not None})
    return _filled(AutoModelForCausalLM.from_config(config))


def make_with_pictures() -> PreTrainedModel:
    """Make a Gemma 3 with an encoder of pictures beside its text model, as `make` makes a text model."""
    pictures = {"image_size": 28, "patch_size": 14, "hidden_size": 32, "intermediate_size": 48}
    pictures |= {"num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**_SIZES, **MODEL_TYPES["gemma3_text"]}
    config = Gemma3Config(text_config=text, vision_config=pictures, mm_tokens_per_image=4)
    return _filled(AutoModelForCausalLM.from_config(config))


def _filled(model: PreTrainedModel) -> PreTrainedModel:
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=draw) + (parameter.dim() == 1))
    return model.eval()
