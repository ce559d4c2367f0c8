"""Texts to token ids, the same way for probing, training and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from knowshift.runtime.errors import KnowshiftError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ChatPrompt:
    """Questions as a chat model is asked them, by the template of its own tokenizer.

    Raises:
        KnowshiftError: the tokenizer has no chat template.
    """

    tokenizer: "PreTrainedTokenizerBase"

    def __post_init__(self) -> None:
        if not self.tokenizer.chat_template:
            raise KnowshiftError("this model's tokenizer has no chat template; set its instruct.prompt to study")

    def ask(self, question: str) -> str:
        """A question as one message of a user, up to where the model answers; without BOS."""
        message = [{"role": "user", "content": question}]
        text = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return text.removeprefix(self.tokenizer.bos_token or "")

    def reply(self, answer: str) -> str:
        """An answer as it would follow."""
        return answer


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
