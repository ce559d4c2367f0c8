"""Facts that a model cannot read are left out of probing and named; all others are probed as before."""

import logging

import pyarrow as pa
import pytest
from architectures import make
from words import SIZE, byte_tokenizer

from knowshift.facts.matching import Synonyms
from knowshift.facts.schemas import FACTS
from knowshift.generation.generate_engine import GenerateEngine
from knowshift.generation.interface import Decoding, Prompt
from knowshift.generation.torch_engine import Engine
from knowshift.mastery.levels import grade
from knowshift.mastery.probing import probe
from knowshift.runtime.errors import KnowshiftError
from made_up_facts import fact

TEMPLATES = ("the planet of [X] is", "[X] orbits")
DECODING = Decoding(4, frozenset({1}), 0.7)
LONG = "S/2003 J 23, formerly provisional designation of a moon"


def table(*subjects: str) -> pa.Table:
    return pa.Table.from_pylist([fact(number, subject=one) for number, one in enumerate(subjects)], schema=FACTS)


@pytest.mark.parametrize("kind", [Engine, GenerateEngine])
@pytest.mark.parametrize("model_type", ["gpt2", "opt", "llama"])
def test_a_fact_longer_than_learned_positions_is_left_out_and_named(
    kind: type, model_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = kind(make(model_type, vocab_size=SIZE, max_position_embeddings=64), tokens_per_pass=8)
    assert engine.positions == (None if model_type == "llama" else 64)
    facts, words = table("Io", LONG, "Titan"), byte_tokenizer()
    with caplog.at_level(logging.WARNING, logger="knowshift"):
        made = probe(engine, words, facts, TEMPLATES, 2, DECODING, 1)
    kept = ["f0", "f1", "f2"] if model_type == "llama" else ["f0", "f2"]
    assert sorted(set(made["fact_id"].to_pylist())) == kept and len(made) == len(kept) * 2 * 2
    assert [record.message for record in caplog.records if "S/2003" in record.message] == (
        [] if model_type == "llama" else [caplog.records[0].message]
    )
    alone = probe(engine, words, table("Io"), TEMPLATES, 2, DECODING, 1)
    assert made.slice(0, 4).equals(alone)
    graded = grade(facts, made, 2, Synonyms({}), "whole_words", (0.25, 0.5, 0.75))
    assert graded["fact_id"].to_pylist() == kept


@pytest.mark.parametrize("kind", [Engine, GenerateEngine])
def test_a_prompt_beyond_learned_positions_ends_in_one_line(kind: type) -> None:
    """Questions are checked too, with their examples and what follows; at the limit they are answered."""
    engine = kind(make("gpt2", max_position_embeddings=16), tokens_per_pass=8)
    fits = Prompt(tuple(range(3, 15)), text="Where?")
    assert len(engine.generate([fits], Decoding(4, frozenset()))[0][0]) == 4
    for prompt in (Prompt(tuple(range(3, 16)), text="Where?"), Prompt(fits.ids, forced=(5,) * 5, text="Where?")):
        with pytest.raises(KnowshiftError, match=r"'Where\?' has 1[23] tokens, .* has learned 16 positions"):
            engine.generate([fits, prompt], Decoding(4, frozenset()))


def test_control_tokens_in_a_fact_are_no_text_and_punctuation_is(caplog: pytest.LogCaptureFixture) -> None:
    engine = GenerateEngine(make("llama", vocab_size=SIZE))
    words = byte_tokenizer(pad_token="!")
    facts = table("the </s> tag", "Yahoo!", "Io")
    with caplog.at_level(logging.WARNING, logger="knowshift"):
        made = probe(engine, words, facts, TEMPLATES, 1, DECODING, 1)
    assert set(made["fact_id"].to_pylist()) == {"f1", "f2"}
    assert ["'</s>'" in record.message for record in caplog.records] == [True]
