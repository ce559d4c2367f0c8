"""The generation engine: exact whatever the order and the neighbours, and in agreement with transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from knowshift.generation import Decoding, Prompt, generate, pick_tokens
from knowshift.models import end_ids, load_model, load_tokenizer
from knowshift.prompts import encode, encode_examples
from knowshift.randomness import counter_uniform, derive_seed


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """A random model: its distributions are flat, so that any slip changes tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=200, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, initializer_range=0.5)  # fmt: skip
    return LlamaForCausalLM(config).eval()


def prompts(count: int, samples: int) -> list[Prompt]:
    draw = np.random.default_rng(0)
    return [
        Prompt(
            tuple(draw.integers(0, 200, draw.integers(1, 45)).tolist()),
            tuple(derive_seed(1, n, s) for s in range(samples)),
        )
        for n in range(count)
    ]


def test_outcomes_do_not_depend_on_order_or_neighbours(model: LlamaForCausalLM) -> None:
    decoding = Decoding(12, frozenset({3}), 0.7, rows=8, prompt_rows=4)
    asked = prompts(30, 3)
    whole = generate(model, asked, decoding)
    assert generate(model, asked[::-1], decoding)[::-1] == whole
    assert generate(model, asked[:7], decoding) + generate(model, asked[7:], decoding) == whole


def test_samples_differ_and_seeds_decide(model: LlamaForCausalLM) -> None:
    decoding = Decoding(8, frozenset(), 0.7, rows=8, prompt_rows=4)
    (ids,) = (prompt.ids for prompt in prompts(1, 1))
    keys = tuple(derive_seed(1, "a", s) for s in range(8))
    once = generate(model, [Prompt(ids, keys)], decoding)
    assert len({tuple(sample) for sample in once[0]}) > 4  # 8 equal ones by chance: never with flat distributions
    assert generate(model, [Prompt(ids, keys)], decoding) == once
    assert generate(model, [Prompt(ids, tuple(derive_seed(2, "a", s) for s in range(8)))], decoding) != once


def test_rows_stop_at_an_end_token_or_the_limit_only(model: LlamaForCausalLM) -> None:
    ends = frozenset(range(0, 200, 5))
    outputs = generate(model, prompts(20, 4), Decoding(6, ends, 0.7, rows=8, prompt_rows=4))
    lengths = [len(sample) for prompt in outputs for sample in prompt]
    assert not ends & {token for prompt in outputs for sample in prompt for token in sample}
    assert max(lengths) == 6 and min(lengths) < 6


def test_greedy_agrees_with_transformers(model: LlamaForCausalLM) -> None:
    ends = frozenset({3})
    for prompt, (ours,) in zip(
        asked := prompts(25, 1), generate(model, asked, Decoding(10, ends, rows=8, prompt_rows=4)), strict=True
    ):
        theirs = model.generate(
            torch.tensor([prompt.ids]), max_new_tokens=10, do_sample=False, eos_token_id=3, pad_token_id=0,
            attention_mask=torch.ones(1, len(prompt.ids), dtype=torch.long),
        )[0, len(prompt.ids) :].tolist()  # fmt: skip
        assert ours == [token for token in theirs if token not in ends]


def test_first_logits_are_those_of_a_plain_forward_pass(model: LlamaForCausalLM) -> None:
    asked, seen = prompts(9, 1), {}
    generate(
        model,
        asked,
        Decoding(1, frozenset(), rows=8, prompt_rows=4),
        on_first_logits=lambda i, x: seen.update({i: x.clone()}),
    )
    for index, prompt in enumerate(asked):
        expected = model(torch.tensor([prompt.ids])).logits[0, -1]
        torch.testing.assert_close(seen[index], expected, rtol=1e-4, atol=1e-4)


def test_tokens_are_drawn_from_the_tempered_distribution() -> None:
    logits = torch.randn(1, 150, generator=torch.Generator().manual_seed(0)) * 2
    uniforms = (np.arange(20_000) + 0.5) / 20_000
    drawn = pick_tokens(logits.expand(20_000, -1), 0.7, uniforms)
    share = torch.bincount(drawn, minlength=150) / 20_000
    torch.testing.assert_close(share, torch.softmax(logits[0] / 0.7, -1), rtol=0, atol=1e-4)


def test_uniforms_are_uniform_and_without_state() -> None:
    keys = np.array([derive_seed(1, "x", n) for n in range(100)], np.uint64)
    values = np.array([counter_uniform(keys, step) for step in range(200)])
    assert values.min() >= 0 and values.max() < 1
    counts, _ = np.histogram(values, bins=20, range=(0, 1))
    assert abs(counts - 1000).max() < 160  # five standard deviations of a binomial (20,000, 1/20)
    assert counter_uniform(keys[3:4], 7)[0] == values[7, 3]


def test_answers_are_tokenised_with_their_prompt(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    ((ids, start),) = encode_examples(tokenizer, ["<|question|> Where does hometrain1 live ? <|answer|>"], [" Rome"])
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[start:-1]).strip() == "Rome"
    assert encode(tokenizer, ["<|question|> Where does hometrain1 live ? <|answer|>"])[0] == ids[:start]
    assert end_ids(load_model(tiny_model, "float32"), tokenizer) == {tokenizer.eos_token_id}
