"""What is stored of an answer: both log-probabilities, of a stand-in engine whose numbers are known."""

from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch

from knowshift.evaluation import answering
from knowshift.evaluation.grading import Grader
from knowshift.evaluation.schemas import ANSWERS, OUTCOMES
from knowshift.facts.matching import Synonyms
from knowshift.generation.interface import Decoding, PromptResult


class StandIn:
    """Answers every prompt with one token, with known log-probabilities."""

    def generate(self, prompts, decoding, on_prompt, on_done, top_logits, on_scores):
        for index, prompt in enumerate(prompts):
            on_prompt(PromptResult(index, torch.arange(5.0), [-1.0 - index] * len(prompt.forced)))
            on_scores(index, 0, [-0.5, -0.25 * (index + 1)])
        return [[[index]] for index in range(len(prompts))]


def test_the_given_answer_is_stored_with_its_log_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "encode_examples", lambda *_: [([1, 2, 3, 4], 2)] * 2)
    tokenizer = SimpleNamespace(batch_decode=lambda ids, **_: [["Oslo", "Rome"][one[0]] for one in ids])
    prompt = SimpleNamespace(ask=str, reply=str)
    questions = pa.table({"fact_id": ["a", "b"], "set": ["test"] * 2, "question": ["x"] * 2, "object": ["Oslo"] * 2})
    found = answering.answer_questions(StandIn(), tokenizer, questions, prompt, Decoding(4, frozenset()))
    assert found.schema.equals(OUTCOMES)
    assert found["answer_logprob"].to_pylist() == [-0.375, -0.5] and found["answer_tokens"].to_pylist() == [2, 2]
    assert found["gold_logprob"].to_pylist() == [-1.0, -2.0]
    facts = {name: {"object": "Oslo", "aliases": [], "level": 1} for name in "ab"}
    rows = Grader(facts, Synonyms({}), "exact").grade(found)
    assert [row["answer_logprob"] for row in rows] == [-0.375, -0.5] and [row["correct"] for row in rows] == [
        True,
        False,
    ]
    keys = dict.fromkeys(("run", "strategy", "region", "percent"))
    pa.Table.from_pylist([{**keys, "run": "base", **row} for row in rows], schema=ANSWERS)
