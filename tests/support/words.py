"""Tokenizers that know every text, made in an instant: a token per byte, and the control tokens asked for."""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SIZE = 288  # tokens of a model for such a tokenizer


def byte_tokenizer(
    bos: str | None = "<s>",
    eos: str | None = "</s>",
    chat: str | None = None,
    adds_bos: bool = True,
    merges: Sequence[tuple[str, str]] = (),
    **more: str,
) -> PreTrainedTokenizerFast:
    """Make a tokenizer of bytes.

    Args:
        bos, eos: these tokens; None for none.
        chat: the chat template.
        adds_bos: whether BOS is put before a plain text, as LLaMA's tokenizer does and GPT-2's does not.
        merges: pairs of letters that are one token, such as ("Ġ", "J") for a space and J.
        more: further control tokens, such as pad_token.
    """
    control = [token for token in dict.fromkeys((bos, eos, *more.values())) if token]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [first + second for first, second in merges]
    core = Tokenizer(models.BPE({token: index for index, token in enumerate([*control, *letters, *pairs])}, [*merges]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if bos and adds_bos:
        core.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, 0)])
    named = {name: token for name, token in {"bos_token": bos, "eos_token": eos, **more}.items() if token}
    made = PreTrainedTokenizerFast(tokenizer_object=core, **named)
    made.chat_template = chat
    return made
