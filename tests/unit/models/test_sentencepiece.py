"""A tokenizer that lies there as sentencepiece's model alone, as LLaMA 2's does in many folders."""

import io
import json
from pathlib import Path

import sentencepiece
from architectures import make

from cli.admitting import admit
from cli.expectations import Expected
from knowshift.models.loading import load_tokenizer
from knowshift.models.sources import resolve
from knowshift.models.tokenizing import encode, encode_examples

PROMPT = Path(__file__).parents[3] / "resources/prompt.yaml"
TEXTS = ["Which planet does the moon Io orbit?", "Jupiter is the planet", "Who composed the opera Aida? Giuseppe Verdi"]


def train() -> bytes:
    """Train a model of a few pieces, with bytes for letters that it does not know."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=made,
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return made.getvalue()


def test_a_sentencepiece_model_alone_is_read_as_sentencepiece_reads_it(tmp_path: Path) -> None:
    source, output, content = tmp_path / "source", tmp_path / "base", train()
    own = sentencepiece.SentencePieceProcessor(model_proto=content)
    make("llama", vocab_size=own.vocab_size()).save_pretrained(source)
    (source / "tokenizer.model").write_bytes(content)
    about = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    about["add_bos_token"] = True
    (source / "tokenizer_config.json").write_text(json.dumps(about))
    output.mkdir()
    resolve({"directory": str(source)}, output)
    words = load_tokenizer(output)
    for text in (*TEXTS, "Größe 東京"):
        (ids,) = encode(words, [text], "never")
        assert ids == own.encode(text) and words.decode(ids) == text
    ((ids, start),) = encode_examples(words, [TEXTS[0]], [" Jupiter"])
    assert ids[-1] == own.eos_id() and ids[0] == own.bos_id() and words.decode(ids[start:-1]).strip() == "Jupiter"
    assert admit(output, Expected(), PROMPT)["eos"] == own.eos_id()
