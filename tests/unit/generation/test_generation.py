"""The generation engine: exact whatever the order and the neighbours, and in agreement with transformers."""

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from knowshift.facts.templates import read_prompt_template
from knowshift.generation.interface import Decoding, Prompt, PromptResult
from knowshift.generation.sampling import Sampler
from knowshift.generation.torch_engine import Engine
from knowshift.models.loading import end_ids, load_model, load_tokenizer
from knowshift.models.tokenizing import encode, encode_examples
from knowshift.randomness import counter_uniform, derive_seed
from knowshift.runtime.errors import KnowshiftError

REPOSITORY = Path(__file__).parents[3]


def random_model(dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """Its distributions are flat, so that any slip changes tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=200,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval().to(dtype)


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(random_model(getattr(request, "param", torch.float32)), tokens_per_pass=8, threads=1)


to_the_bit = pytest.mark.parametrize("engine", [torch.float32, torch.bfloat16], indirect=True, ids=str)


def prompts(count: int, samples: int, forced: int = 0) -> list[Prompt]:
    draw = np.random.default_rng(0)
    return [
        Prompt(
            tuple(draw.integers(0, 200, draw.integers(1, 45)).tolist()),
            tuple(derive_seed(1, n, s) for s in range(samples)),
            tuple(draw.integers(0, 200, n % (forced + 1)).tolist()),
        )
        for n in range(count)
    ]


@to_the_bit
def test_outcomes_do_not_depend_on_order_neighbours_or_threads(engine: Engine) -> None:
    decoding = Decoding(12, frozenset({3}), 0.7)
    asked = prompts(30, 3)
    whole = engine.generate(asked, decoding)
    assert engine.generate(asked[::-1], decoding)[::-1] == whole
    assert engine.generate(asked[:7], decoding) + engine.generate(asked[7:], decoding) == whole
    for threads in (2, 3):
        other = Engine(random_model(engine.model.dtype), tokens_per_pass=8, threads=threads)
        assert other.generate(asked, decoding) == whole


@to_the_bit
def test_what_a_prompt_is_forced_to_drafts_greedy_answers_and_changes_none(engine: Engine) -> None:
    decoding = Decoding(10, frozenset(range(0, 200, 9)))
    plain = prompts(40, 1)
    answers = [samples[0] for samples in engine.generate(plain, decoding)]
    assert {len(answer) for answer in answers} >= {0, 1, 2, 10}
    draw, steps = np.random.default_rng(2), []
    drafted = [
        Prompt(prompt.ids, prompt.keys, (*answer[: draw.integers(0, 11)], *draw.integers(0, 200, n % 3).tolist()))
        for n, (prompt, answer) in enumerate(zip(plain, answers, strict=True))
    ]
    whole = [Prompt(prompt.ids, prompt.keys, tuple(answer)) for prompt, answer in zip(plain, answers, strict=True)]
    handle = engine.model.register_forward_hook(lambda *_: steps.append(1))
    try:
        assert [samples[0] for samples in engine.generate(drafted, decoding)] == answers
        steps.clear()
        assert [samples[0] for samples in engine.generate(whole, decoding)] == answers
        read = sum(len(prompt.ids) + len(prompt.forced) for prompt in whole)
        assert (
            len(steps) <= read / engine.tokens_per_pass + 4
        )  # reading the prompts tells everything: none of 10 steps follows
    finally:
        handle.remove()


@to_the_bit
def test_beginnings_that_prompts_share_are_read_once_and_change_nothing(engine: Engine) -> None:
    """Beginnings of several lengths and tokens, in any company, give to the bit what each prompt gives alone."""
    draw, passes = np.random.default_rng(3), []
    heads = [tuple(draw.integers(0, 200, length).tolist()) for length in (0, 2, 13, 14, 30)]
    heads.append((*heads[-1][:20], *heads[1]))
    asked = [
        Prompt((*heads[n % 6], *prompt.ids[:9]), prompt.keys, prompt.forced)
        for n, prompt in enumerate(prompts(60, 2, forced=3))
    ]
    asked += asked[:5]

    def outcomes(some: list[Prompt], decoding: Decoding) -> list:
        seen: dict[int, tuple] = {}
        outputs = engine.generate(
            some, decoding, lambda read: seen.update({read.index: (read.logits.tolist(), read.forced)})
        )
        return [(output, seen[index]) for index, output in enumerate(outputs)]

    for temperature in (0.0, 0.7):
        decoding = Decoding(9, frozenset({3}), temperature)
        assert outcomes(asked, decoding) == [outcomes([prompt], decoding)[0] for prompt in asked]
    handle = engine.model.register_forward_hook(lambda *_: passes.append(1))
    try:
        outcomes(asked, Decoding(1, frozenset()))
    finally:
        handle.remove()
    tokens = sum(len(prompt.ids) + len(prompt.forced) for prompt in asked)
    own = tokens - sum(len(heads[n % 6]) for n in range(60))
    assert own < len(passes) * engine.tokens_per_pass < 0.75 * tokens


@to_the_bit
def test_first_logits_are_bitwise_the_same_in_any_company(engine: Engine) -> None:
    asked, seen = prompts(20, 1), []
    for order in (asked, asked[::-1], asked[3:8]):
        logits: dict = {}
        engine.generate(
            order,
            Decoding(3, frozenset()),
            lambda read, to=logits, of=order: to.update({of[read.index].ids: read.logits.clone()}),
        )
        seen.append(logits)
    assert {logits.dtype for logits in seen[0].values()} == {engine.model.dtype}
    for other in seen[1:]:
        assert all(torch.equal(logits, seen[0][ids]) for ids, logits in other.items())


def test_an_error_in_a_thread_is_raised(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError):
        engine.generate(prompts(5, 1), Decoding(3, frozenset()), lambda read: 1 / 0)


def test_an_error_in_one_thread_ends_the_others(tiny_model: Path) -> None:
    engine, read = Engine(load_model(tiny_model, "float32"), tokens_per_pass=8, threads=2), []

    def fail_once(_: PromptResult) -> None:
        read.append(0)
        assert len(read) > 1

    with pytest.raises(AssertionError):
        engine.generate(prompts(400, 1), Decoding(8, frozenset()), fail_once)
    assert len(read) < 200


def test_samples_differ_and_seeds_decide(engine: Engine) -> None:
    decoding = Decoding(8, frozenset(), 0.7)
    (ids,) = (prompt.ids for prompt in prompts(1, 1))
    keys = tuple(derive_seed(1, "a", s) for s in range(8))
    once = engine.generate([Prompt(ids, keys)], decoding)
    assert len({tuple(sample) for sample in once[0]}) > 4  # 8 equal ones by chance: never with flat distributions
    assert engine.generate([Prompt(ids, keys)], decoding) == once
    assert engine.generate([Prompt(ids, tuple(derive_seed(2, "a", s) for s in range(8)))], decoding) != once


def test_samples_stop_at_an_end_token_or_the_limit_only(engine: Engine) -> None:
    ends = frozenset(range(0, 200, 5))
    outputs = engine.generate(prompts(20, 4), Decoding(6, ends, 0.7))
    lengths = [len(sample) for prompt in outputs for sample in prompt]
    assert not ends & {token for prompt in outputs for sample in prompt for token in sample}
    assert max(lengths) == 6 and min(lengths) < 6


def greedy_answers(model: PreTrainedModel, asked: list[Prompt], tokens: int) -> list[list[list[int]]]:
    """What `generate` of transformers answers, with end token 3, in the form of `Engine.generate`."""
    answers = []
    for prompt in asked:
        ids = torch.tensor([prompt.ids])
        whole = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=3,
            pad_token_id=0,
        )
        answers.append([[token for token in whole[0, len(prompt.ids) :].tolist() if token != 3]])
    return answers


def test_greedy_agrees_with_transformers(engine: Engine) -> None:
    asked = prompts(25, 1, forced=3)
    assert engine.generate(asked, Decoding(10, frozenset({3}))) == greedy_answers(random_model(), asked, 10)


def small_model(kind: str, **more: object) -> PreTrainedModel:
    """Of any architecture, with flat distributions."""
    torch.manual_seed(0)
    size = {
        "vocab_size": 200,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "initializer_range": 0.5,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 3,
    }
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **size | more)).eval()


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("gpt2", {}),
        ("gpt_neox", {}),
        ("gptj", {"rotary_dim": 8}),
        ("opt", {"ffn_dim": 64}),
        ("qwen3", {"num_key_value_heads": 2, "head_dim": 8}),
        ("gemma2", {"num_key_value_heads": 2, "head_dim": 8, "attn_logit_softcapping": 1.0}),
        ("mixtral", {"num_key_value_heads": 2, "num_local_experts": 4}),
    ],
)
def test_other_architectures_agree_with_transformers(kind: str, more: dict) -> None:
    asked = prompts(12, 1, forced=3)
    ours = Engine(small_model(kind, **more), tokens_per_pass=8, threads=1).generate(asked, Decoding(6, frozenset({3})))
    assert ours == greedy_answers(small_model(kind, **more), asked, 6)


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("bloom", {}, "cannot run BloomForCausalLM"),
        ("gpt_oss", {"num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 4}, "knows no attention sinks"),
        ("mistral", {"num_key_value_heads": 2, "sliding_window": 16}, "knows no window of 16 tokens"),
    ],
)
def test_an_attention_that_is_not_ours_is_refused(kind: str, more: dict, said: str) -> None:
    with pytest.raises(KnowshiftError, match=said):
        Engine(small_model(kind, **more), tokens_per_pass=8, threads=1).generate(
            prompts(3, 1), Decoding(3, frozenset())
        )


@pytest.mark.slow
def test_greedy_agrees_with_transformers_on_real_questions(smollm2: Path) -> None:
    """120 test questions of the default facts, except where the two best logits lie within 1e-4."""
    tokenizer = load_tokenizer(smollm2)
    files = sorted((REPOSITORY / "resources/facts/test").glob("*.json"))
    every = [row["question"] for path in files for row in json.loads(path.read_text(encoding="utf-8"))]
    questions = random.Random(1).sample(every, 120)
    template = read_prompt_template(REPOSITORY / "resources/prompt.yaml")
    ids = encode(tokenizer, [template.ask(question) for question in questions])
    plain = load_model(smollm2, "float32")
    ends = end_ids(smollm2, tokenizer)
    engine = Engine(load_model(smollm2, "float32"), tokens_per_pass=32, threads=2)
    ours = [answer for (answer,) in engine.generate([Prompt(tuple(row)) for row in ids], Decoding(10, ends))]
    differing = 0
    for start in range(0, len(ids), 40):
        some = ids[start : start + 40]
        longest = max(map(len, some))
        batch = torch.tensor([[0] * (longest - len(row)) + row for row in some])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in some])
        theirs = plain.generate(
            batch,
            attention_mask=mask,
            max_new_tokens=10,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=sorted(ends),
            output_logits=True,
            return_dict_in_generate=True,
        )
        for index, row in enumerate(theirs.sequences[:, longest:].tolist()):
            answer = list(itertools.takewhile(lambda token: token not in ends, row))
            mine = ours[start + index]
            if mine == answer:
                continue
            step = next(n for n in range(11) if mine[n : n + 1] != answer[n : n + 1])
            best = theirs.logits[step][index].topk(2).values
            assert best[0] - best[1] < 1e-4, questions[start + index]
            differing += 1
    assert differing <= len(questions) / 50


def test_first_logits_and_forced_continuations_are_those_of_a_plain_forward_pass(engine: Engine) -> None:
    asked, seen, plain = prompts(9, 1, forced=5), {}, random_model()
    engine.generate(
        asked,
        Decoding(1, frozenset()),
        lambda read: seen.update({read.index: (read.logits.clone(), read.forced)}),
    )
    for index, prompt in enumerate(asked):
        logits = plain(torch.tensor([[*prompt.ids, *prompt.forced]])).logits[0, len(prompt.ids) - 1 :]
        torch.testing.assert_close(seen[index][0], logits[0], rtol=1e-4, atol=1e-4)
        expected = [logits[n].log_softmax(-1)[token].item() for n, token in enumerate(prompt.forced)]
        assert seen[index][1] == pytest.approx(expected, abs=1e-3)


@to_the_bit
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_scores_are_log_probabilities_of_the_chosen_tokens(engine: Engine, temperature: float) -> None:
    """Drafts, order and threads change none of them; each token is scored as in a plain forward pass."""
    ends, asked = frozenset(range(0, 200, 9)), prompts(9, 2)
    decoding, plain = Decoding(6, ends, temperature), random_model(engine.model.dtype)

    def generate(engine: Engine, asked: list[Prompt]) -> tuple[list, dict]:
        scores: dict = {}
        return engine.generate(asked, decoding, on_scores=lambda n, s, found: scores.update({(n, s): found})), scores

    outputs, seen = generate(engine, asked)
    assert set(seen) == {(n, s) for n in range(9) for s in range(2)}
    assert engine.generate(asked, decoding) == outputs
    other = Engine(random_model(engine.model.dtype), tokens_per_pass=8, threads=3)
    assert generate(other, asked) == (outputs, seen)
    drafted = [Prompt(prompt.ids, prompt.keys, tuple(outputs[n][0][:4])) for n, prompt in enumerate(asked)]
    assert generate(engine, drafted) == (outputs, seen)
    if engine.model.dtype != torch.float32:
        return  # a plain forward pass rounds otherwise
    for (n, s), scores in seen.items():
        chosen = outputs[n][s]
        assert len(scores) == len(chosen) + (len(chosen) < 6)  # the end token is scored too
        logits = plain(torch.tensor([[*asked[n].ids, *chosen]])).logits[0, len(asked[n].ids) - 1 :].float()
        expected = logits.log_softmax(-1)
        for step, token in enumerate(chosen):
            assert scores[step] == pytest.approx(expected[step, token].item(), abs=1e-3)
        if len(chosen) < 6:
            possible = expected[len(chosen), sorted(ends)]
            assert min(abs(possible - scores[-1])) < 1e-3


@pytest.mark.parametrize("tokens", [150, 64 * 100])
def test_tokens_are_drawn_from_the_tempered_distribution(tokens: int) -> None:
    logits = torch.randn(1, tokens, generator=torch.Generator().manual_seed(0)) * 2
    uniforms = (np.arange(2_000) + 0.5) / 2_000
    drawn = Sampler().pick(logits.expand(2_000, -1), 0.7, uniforms)
    expected = torch.softmax(logits[0] / 0.7, -1)
    order = expected.argsort(descending=True)
    reached = torch.bincount(drawn, minlength=tokens)[order].cumsum(0) / 2_000  # inverted in this order
    torch.testing.assert_close(reached.double(), expected[order].double().cumsum(0), rtol=0, atol=6e-4)


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True), st.sampled_from([40, 64 * 70]))
def test_equal_logits_are_taken_by_id(seed: int, uniform: float, tokens: int) -> None:
    """Against a plain inversion over a stable sort, with logits so coarse that most are tied."""
    logits = torch.randint(-3, 4, (1, tokens), generator=torch.Generator().manual_seed(seed)).bfloat16()
    probabilities = torch.softmax(logits.float(), -1)
    values, ids = probabilities[0].sort(descending=True, stable=True)
    cumulative = values.double().cumsum(0)
    index = int((ids == Sampler().pick(logits, 1.0, np.array([uniform]))[0]).nonzero())
    before = float(cumulative[index - 1]) if index else 0.0
    assert before - 1e-5 <= uniform <= float(cumulative[index]) + 1e-5  # float32 probabilities sum to 1 only so nearly


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
    assert end_ids(tiny_model, tokenizer) == {tokenizer.eos_token_id}
