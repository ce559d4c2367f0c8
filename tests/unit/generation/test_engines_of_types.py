"""Which engine runs which type of model, and what an engine says that cannot; logits that are not finite."""

import numpy as np
import pytest
import torch
from architectures import MODEL_TYPES, VOCABULARY, make, make_with_pictures
from model_table import listed_types
from transformers import PreTrainedModel

from knowshift.generation.generate_engine import GenerateEngine
from knowshift.generation.interface import Decoding, Prompt, PromptResult
from knowshift.generation.torch_engine import Engine
from knowshift.randomness import derive_seed
from knowshift.runtime.errors import KnowshiftError

TYPES = listed_types()
QUICK = ["llama", "gpt2", "gemma2", "mixtral", "bloom", "gpt_oss", "mamba", "gpt_neo", "gpt_neox"]
slowly = [pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in MODEL_TYPES]


def test_the_documents_list_every_type_that_is_tried() -> None:
    assert list(TYPES) == sorted(MODEL_TYPES)
    assert {engine for engine, _ in TYPES.values()} == {"torch", "generate"}


def prompts(count: int = 5, samples: int = 1, forced: int = 3) -> list[Prompt]:
    draw = np.random.default_rng(0)
    return [
        Prompt(
            tuple(draw.integers(3, VOCABULARY, draw.integers(2, 12)).tolist()),
            tuple(derive_seed(1, n, s) for s in range(samples)),
            tuple(draw.integers(3, VOCABULARY, forced).tolist()),
        )
        for n in range(count)
    ]


def compare(engine: Engine | GenerateEngine, model: PreTrainedModel) -> None:
    """Compare greedy tokens, first logits, forced continuations and scores with plain forward passes."""
    asked, results, scored = prompts(), {}, {}

    def keep(result: PromptResult) -> None:
        results[result.index] = (result.logits.float().clone(), result.forced)

    def keep_scores(index: int, _: int, scores: list[float]) -> None:
        scored[index] = scores

    outputs = engine.generate(asked, Decoding(4, frozenset({2})), keep, on_scores=keep_scores)
    for index, prompt in enumerate(asked):
        with torch.no_grad():
            ids = [*prompt.ids, *prompt.forced]
            plain = model(torch.tensor([ids]), use_cache=False).logits[0].float()
            first = plain[len(prompt.ids) - 1]
            torch.testing.assert_close(results[index][0], first, rtol=1e-3, atol=1e-3)
            scores = plain[len(prompt.ids) - 1 : -1].log_softmax(-1)[range(len(prompt.forced)), [*prompt.forced]]
            torch.testing.assert_close(torch.tensor(results[index][1]), scores, rtol=1e-3, atol=1e-3)
            (answer,) = outputs[index]
            chosen = [*answer, *([2] if len(answer) < 4 else [])]
            whole = model(torch.tensor([[*prompt.ids, *chosen]]), use_cache=False).logits[0].float()
        after = whole[len(prompt.ids) - 1 : -1]
        best = after.max(-1).values
        assert bool((after[range(len(chosen)), chosen] >= best - 1e-3).all())
        mine = after.log_softmax(-1)[range(len(chosen)), chosen]
        torch.testing.assert_close(torch.tensor(scored[index]), mine, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model_type", slowly)
def test_the_torch_engine_runs_a_type_or_refuses_it_at_once(model_type: str) -> None:
    model = make(model_type)
    if TYPES[model_type][0] == "generate":
        with pytest.raises(KnowshiftError, match="set engine: generate") as caught:
            Engine(model, tokens_per_pass=8, threads=1)
        assert "\n" not in str(caught.value)
    else:
        compare(Engine(model, tokens_per_pass=8, threads=1), make(model_type))


@pytest.mark.parametrize("model_type", slowly)
def test_the_engine_generate_runs_every_type(model_type: str) -> None:
    compare(GenerateEngine(make(model_type), tokens_per_pass=8), make(model_type))


def test_both_engines_run_a_model_with_an_encoder_of_pictures() -> None:
    for engine in (Engine, GenerateEngine):
        compare(engine(make_with_pictures(), tokens_per_pass=8), make_with_pictures())


def test_both_engines_draw_the_same_samples() -> None:
    asked, decoding = prompts(6, samples=5, forced=0), Decoding(8, frozenset({2}), 0.8)
    ours = Engine(make("llama"), tokens_per_pass=8, threads=1).generate(asked, decoding)
    theirs = GenerateEngine(make("llama"), tokens_per_pass=3).generate(asked, decoding)
    assert ours == theirs
    assert len({tuple(sample) for prompt in ours for sample in prompt}) > 20


def test_settings_of_generation_that_come_with_a_model_do_not_count() -> None:
    model = make("llama")
    model.generation_config.repetition_penalty, model.generation_config.max_new_tokens = 5.0, 1
    asked = prompts(4)
    assert GenerateEngine(model).generate(asked, Decoding(6, frozenset())) == GenerateEngine(make("llama")).generate(
        asked, Decoding(6, frozenset())
    )


def test_end_tokens_callbacks_and_greedy_samples_of_the_engine_generate() -> None:
    asked, ends, told = prompts(6, samples=3), frozenset(range(3, VOCABULARY, 4)), []
    outputs = GenerateEngine(make("llama")).generate(asked, Decoding(9, ends), on_done=lambda *one: told.append(one))
    assert sorted(told) == [(index, sample) for index in range(6) for sample in range(3)]
    assert all(prompt[0] == prompt[1] == prompt[2] and not ends & set(prompt[0]) for prompt in outputs)
    assert len({len(prompt[0]) for prompt in outputs}) > 1


@pytest.mark.parametrize("kind", [Engine, GenerateEngine])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize(
    ("dtype", "remedy"),
    [
        (torch.float16, "bfloat16 or float32"),
        (torch.bfloat16, "set dtype: float32"),
        (torch.float32, "weights are damaged"),
    ],
)
def test_logits_that_are_not_finite_stop_an_engine(
    kind: type, temperature: float, dtype: torch.dtype, remedy: str
) -> None:
    model = make("llama")
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.up_proj.weight")[0, 0] = float("nan")
    engine = kind(model.to(dtype), tokens_per_pass=8)  # pyright: ignore[reportArgumentType]
    with pytest.raises(KnowshiftError, match=remedy) as caught:
        engine.generate([Prompt((5, 6), (1,), text="Phobos orbits")], Decoding(3, frozenset(), temperature))
    assert "'Phobos orbits'" in str(caught.value) and "\n" not in str(caught.value)


def test_float16_that_overflows_is_found_out_and_float32_is_not_stopped() -> None:
    model = make("llama")
    with torch.no_grad():
        for layer in range(2):
            model.get_parameter(f"model.layers.{layer}.mlp.up_proj.weight").mul_(1e5)
    asked, decoding = [Prompt((5, 6, 7))], Decoding(3, frozenset())
    assert Engine(model, tokens_per_pass=8, threads=1).generate(asked, decoding)
    half = make("llama")
    half.load_state_dict(model_state(half, 1e5))
    narrow: PreTrainedModel = half.to(torch.float16)  # pyright: ignore[reportArgumentType]
    with pytest.raises(KnowshiftError, match=r"not finite after the prompt of the token ids \[5, 6, 7\]"):
        Engine(narrow, tokens_per_pass=8).generate(asked, decoding)


def model_state(model: PreTrainedModel, factor: float) -> dict[str, torch.Tensor]:
    return {name: value * factor if "up_proj" in name else value for name, value in model.state_dict().items()}


def test_tokens_that_a_model_rules_out_are_no_error() -> None:
    model = make("llama")
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda module, inputs, output: output.index_fill(-1, torch.tensor([7]), -torch.inf))
    asked = prompts(3, forced=0)
    outputs = GenerateEngine(model).generate(asked, Decoding(5, frozenset()))
    assert all(7 not in ids for (ids,) in outputs)
