"""Examples of tasks are asked as they are meant: the answers and log-probabilities are those of the plain model."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from knowshift.configuration.models import Chat
from knowshift.configuration.tasks import AskedTask
from knowshift.evaluation.schemas import TASK_OUTCOMES
from knowshift.evaluation.tasks import answer_examples
from knowshift.facts.task_examples import Example
from knowshift.generation.interface import Prompt
from knowshift.generation.torch_engine import Engine
from knowshift.models.loading import end_ids, load_model, load_tokenizer
from knowshift.runtime.errors import KnowshiftError

TEMPLATE = "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}"
PROMPTS = [f"{name} lives in" for name in ("hometest0", "hometest4", "homedev9", "hometrain3")]


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Engine:
    return Engine(load_model(tiny_model, "float32", "cpu"), 16, 1)


@pytest.fixture
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny_model)


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


def ask(engine, tokenizer, folder: Path, examples: list[Example], **task):
    ends = end_ids(folder, tokenizer)
    table = answer_examples(engine, tokenizer, examples, AskedTask(**task), 1, ends, 64)
    assert table.schema.equals(TASK_OUTCOMES)
    return table.to_pylist()


def test_answers_are_those_of_greedy_decoding(engine, tokenizer, plain, tiny_model: Path) -> None:
    examples = [Example(line, prompt, ("Rome", "Oslo")) for line, prompt in enumerate(PROMPTS, 1)]
    rows = ask(engine, tokenizer, tiny_model, examples, max_new_tokens=3)
    for row, example in zip(rows, examples, strict=True):
        ids = tokenizer(example.asked, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            out = plain.generate(ids, max_new_tokens=3, do_sample=False)
        assert row["output"] == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        assert row["example"] == example.line and row["half"] == example.half(1) and row["logprob"] is None
        assert row["expected"] == ["Rome", "Oslo"]
    assert len({row["output"] for row in rows}) > 1


def test_log_probabilities_are_those_of_the_first_expected_answer(engine, tokenizer, plain, tiny_model: Path) -> None:
    examples = [
        Example(1, PROMPTS[0], (" Paris",)),
        Example(2, PROMPTS[0] + " ", ("Paris",)),  # white space at the end belongs to the answer
        Example(3, PROMPTS[1], (" Rome lives in Oslo", " Cairo")),
        Example(4, PROMPTS[0], ("Paris",)),  # and a space stands where there is none
    ]
    rows = ask(engine, tokenizer, tiny_model, examples, metric="loglikelihood")
    for row, text in zip(rows, (" Paris", " Paris", " Rome lives in Oslo", " Paris"), strict=True):
        prompt = examples[row["example"] - 1].asked.rstrip()
        ids, start = tokenizer(prompt + text)["input_ids"], len(tokenizer(prompt)["input_ids"])
        with torch.inference_mode():
            logs = plain(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        expected = [float(logs[place - 1, ids[place]]) for place in range(start, len(ids))]
        assert row["logprob"] == pytest.approx(sum(expected) / len(expected), abs=1e-4) and row["output"] is None


def test_a_conversation_goes_through_the_chat_template_and_a_prompt_does_not(tokenizer, tiny_model: Path) -> None:
    asked: list[Prompt] = []

    class Recording:
        def generate(self, prompts, *_):
            asked.extend(prompts)
            return [[[5]] for _ in prompts]

    said = (("system", "home"), ("user", "Rome"))
    examples = [Example(1, said, ("x",)), Example(2, said[1:], ("x",)), Example(3, "home", ("x",))]
    chat = {"chat": Chat(system="pet"), "bos": "always", "max_new_tokens": 4}
    ask(Recording(), tokenizer, tiny_model, examples, **chat)
    assert [prompt.text for prompt in asked] == ["home\n\nRome\n\n", "Rome\n\n", "home"]
    assert all(prompt.ids[0] == tokenizer.bos_token_id for prompt in asked)
    asked.clear()
    tokenizer.chat_template = TEMPLATE
    ask(Recording(), tokenizer, tiny_model, examples, **chat)
    assert [prompt.text for prompt in asked] == ["system home user Rome ", "system pet user Rome ", "home"]
    starts = [prompt.ids[0] == tokenizer.bos_token_id for prompt in asked]
    assert starts == [False, False, True]  # a template puts BOS where it belongs; this one puts none


def test_an_example_that_is_too_long_is_named(engine, tokenizer, tiny_model: Path) -> None:
    long = Example(7, "home " * 60, ("Rome",))
    with pytest.raises(KnowshiftError, match=r"task t, line 7: 7\d tokens with the answer, and the model reads 64"):
        ask(engine, tokenizer, tiny_model, [long], name="t", max_new_tokens=10)
