"""Texts as token ids: where BOS stands, and chat prompts that are the same on every day."""

import datetime
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import tiny
from knowshift.models.loading import load_tokenizer
from knowshift.models.tokenizing import ChatPrompt, encode, encode_examples, line_break_ids, starts_with_bos
from knowshift.runtime.errors import KnowshiftError

TEXT = "Where does hometrain1 live ?"


def tokenizer(adds: bool, folder: Path) -> PreTrainedTokenizerFast:
    """Return the tiny tokenizer, loaded from disk, which adds BOS to plain text or does not."""
    made = tiny.tokenizer()
    if not adds:
        made.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A")
    made.save_pretrained(folder)
    return load_tokenizer(folder)


@pytest.mark.parametrize("adds", [True, False])
def test_bos_stands_where_the_tokenizer_puts_it_or_as_asked(adds: bool, tmp_path: Path) -> None:
    words = tokenizer(adds, tmp_path)
    assert starts_with_bos(words) == adds
    assert encode(words, [TEXT, "lives"]) == [words(TEXT)["input_ids"], words("lives")["input_ids"]]
    plain = words(TEXT, add_special_tokens=False)["input_ids"]
    assert encode(words, [TEXT], "never") == [plain]
    assert encode(words, [TEXT], "always") == [[words.bos_token_id, *plain]]
    for bos in ("as_tokenizer", "always", "never"):
        ((ids, start),) = encode_examples(words, [TEXT], [" Rome"], bos)
        assert [ids[:start]] == encode(words, [TEXT], bos) and ids[-1] == words.eos_token_id
        assert words.decode(ids[start:-1]).strip() == "Rome"


def test_tokens_of_line_breaks_alone_are_known() -> None:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=["</s>"])
    core.train_from_iterator(["end.\n\nNext\n\n\n\nlast.\n\n"] * 9, trainer)
    words = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")
    alone = {token for token in words.get_vocab() if token and set(token) == {"Ċ"}}
    assert line_break_ids(words) == {words.convert_tokens_to_ids(token) for token in alone}
    assert len(alone) > 1 and any("Ċ" in token and token not in alone for token in words.get_vocab())


def test_bounds_that_a_tokenizer_was_saved_with_do_not_count(tmp_path: Path) -> None:
    """Trainers leave truncation and padding in tokenizer.json; texts are read whole, and nothing is put after them."""
    plain, bounded = tiny.tokenizer(), tiny.tokenizer()
    bounded.backend_tokenizer.enable_truncation(3)
    bounded.backend_tokenizer.enable_padding(length=12)
    for folder, words in (("plain", plain), ("bounded", bounded)):
        words.save_pretrained(tmp_path / folder)
    saved = json.loads((tmp_path / "bounded/tokenizer.json").read_text())
    assert saved["truncation"] and saved["padding"]
    one, other = (load_tokenizer(tmp_path / folder) for folder in ("plain", "bounded"))
    assert encode(other, [TEXT, "lives"]) == encode(one, [TEXT, "lives"])
    assert encode_examples(other, [TEXT], [" Rome"]) == encode_examples(one, [TEXT], [" Rome"])


def test_bos_needs_a_token() -> None:
    words = tiny.tokenizer()
    words.bos_token = None
    assert not starts_with_bos(words) and encode(words, [TEXT]) == encode(words, [TEXT], "never")
    with pytest.raises(KnowshiftError, match=r"models\.\*\.bos is always"):
        encode(words, [TEXT], "always")


@pytest.mark.parametrize("begins", ["", "{{ bos_token }}"])
def test_a_chat_template_decides_on_bos(begins: str, tmp_path: Path) -> None:
    words = tokenizer(True, tmp_path)
    words.chat_template = begins + "<|question|> {{ messages[0].content }} <|answer|>"
    (ids,) = encode(words, [ChatPrompt(words).ask(TEXT)], "never")
    assert ids.count(words.bos_token_id) == (ids[0] == words.bos_token_id) == bool(begins)


class Tomorrow(datetime.datetime):
    """The clock of another day."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return datetime.datetime(2031, 12, 24, tzinfo=tz)


TEMPLATE = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ date_string }}|{{ strftime_now('%Y-%m-%d') }}|{{ messages[0].content }}"
    "|{% if enable_thinking is not defined or enable_thinking %}think{% endif %}|{% if thinking %}think{% endif %}"
)


def test_the_date_is_pinned_and_thinking_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = tokenizer(False, tmp_path)
    words.chat_template = TEMPLATE
    asked = ChatPrompt(words, "Be short.").ask(TEXT)
    assert asked == f"01 Jan 2025|2025-01-01|{TEXT} Be short.||"
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)
    assert ChatPrompt(words, "Be short.").ask(TEXT) == asked
    words.chat_template = "{% set form = '%Y' %}{{ strftime_now(form) }}"
    with pytest.raises(KnowshiftError, match="today's date"):
        ChatPrompt(words).ask(TEXT)
    words.chat_template = TEMPLATE
    assert ChatPrompt(words, pinned_date="2024-07-26", thinking=True).ask(TEXT) == (
        f"26 Jul 2024|2024-07-26|{TEXT}|think|think"
    )


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for i in range(10**9) %}{% endfor %}", "fails"),  # the sandbox bounds one range, but not several
        ("{% for i in range(10**5) %}{% for j in range(10**5) %}{% endfor %}{% endfor %}", "does not come to an end"),
        ("{{ ''.__class__.__mro__ }}", "fails (SecurityError"),
        ("{{ messages.append(1) }}", "fails (SecurityError"),
        ("{{ raise_exception('no users') }}", "no users"),
        ("{{ messages[0].content", "fails (TemplateSyntaxError"),
        ("{{ 1 / 0 }}", "fails (ZeroDivisionError"),
        ("{{ 'ab' * 10**6 }}", "makes 2,000,000 characters"),
    ],
)
def test_a_chat_template_that_fails_or_does_not_end_is_one_line(
    template: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("knowshift.runtime.time_limit.SECONDS", 0.5)
    words = tokenizer(False, tmp_path)
    words.chat_template = template
    with pytest.raises(KnowshiftError) as caught:
        ChatPrompt(words).ask(TEXT)
    assert said in str(caught.value) and "instruct.prompt" in str(caught.value) and "\n" not in str(caught.value)


def test_further_arguments_reach_the_template_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    words = tokenizer(False, tmp_path)
    words.chat_template = (
        "{{ effort }}|{{ messages[0].content }}{% if not enable_thinking %}|<think></think>{% endif %}"
    )
    asked = ChatPrompt(words, template_args={"effort": "low", "enable_thinking": False}).ask(TEXT)
    assert asked == f"low|{TEXT}|<think></think>"
    assert ChatPrompt(words, template_args={"enable_thinking": True}).ask(TEXT) == f"|{TEXT}"
    with pytest.raises(KnowshiftError, match=r"does not know enable_thinkin, which chat\.template_args"):
        ChatPrompt(words, template_args={"enable_thinkin": False})
    words.chat_template = {"tools": "{{ messages }}", "rag": "{{ messages }}"}
    with pytest.raises(KnowshiftError, match=r"offers no chat template to take \(.*\['rag', 'tools'\]"):
        ChatPrompt(words).ask(TEXT)


def test_a_token_without_an_embedding_is_named_with_both_numbers(tmp_path: Path) -> None:
    words = tokenizer(True, tmp_path)
    (tmp_path / "config.json").write_text(f'{{"model_type": "llama", "vocab_size": {len(words)}}}')
    words = load_tokenizer(tmp_path)
    assert encode(words, [TEXT])
    words.add_tokens(["<|question|>"])
    with pytest.raises(KnowshiftError, match=rf"'<\|question\|>', whose id {len(words) - 1:,} is beyond the"):
        encode(words, [TEXT, "<|question|> Where ?"])
    with pytest.raises(KnowshiftError, match="makes no token of ''"):
        encode(words, [""], "never")


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 1}'])
def test_a_tokenizer_that_cannot_be_loaded_is_one_line(content: str, tmp_path: Path) -> None:
    tokenizer(True, tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(KnowshiftError, match="cannot load the tokenizer of") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)
