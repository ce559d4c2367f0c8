"""Texts to token ids, the same way for probing, training and evaluation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from knowshift.errors import KnowshiftError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts, each after BOS where the tokenizer has one."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if not texts:
        return []
    return [start + ids for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def encode_examples(
    tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str], answers: Sequence[str]
) -> list[tuple[list[int], int]]:
    """Training examples: (BOS, prompt, answer, EOS) as token ids, with the length of BOS and prompt.

    Prompt and answer are tokenised as one text, as the model will read them.

    Raises:
        KnowshiftError: the tokenizer merges the end of a prompt with the start of its answer.
    """
    examples = []
    whole = encode(tokenizer, [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)])
    for ids, start, prompt in zip(whole, encode(tokenizer, prompts), prompts, strict=True):
        if ids[: len(start)] != start:
            raise KnowshiftError(
                f"this model's tokenizer joins the end of the prompt {prompt!r} with the answer; change the prompt template"
            )
        examples.append(([*ids, tokenizer.eos_token_id], len(start)))
    return examples
