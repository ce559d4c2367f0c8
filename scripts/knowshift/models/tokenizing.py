"""Conversion of texts to token ids, the same for probing, training and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from knowshift.runtime.errors import KnowshiftError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ChatPrompt:
    """The prompt of a chat model: a question in the chat template of its tokenizer.

    Attributes:
        tokenizer: the model's tokenizer, with a chat template.
    """

    tokenizer: "PreTrainedTokenizerBase"

    def __post_init__(self) -> None:
        """Check the tokenizer.

        Raises:
            KnowshiftError: the tokenizer has no chat template.
        """
        if not self.tokenizer.chat_template:
            raise KnowshiftError("this model's tokenizer has no chat template; set its instruct.prompt to study")

    def ask(self, question: str) -> str:
        """Format a question as one message of a user, up to where the model answers, without the BOS token."""
        message = [{"role": "user", "content": question}]
        text = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        assert isinstance(text, str)  # one conversation, not tokenized
        bos = self.tokenizer.bos_token
        return text.removeprefix(bos) if isinstance(bos, str) else text

    def reply(self, answer: str) -> str:
        """Format an answer as it follows the formatted question: unchanged."""
        return answer


def encode(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Convert texts to token ids, each with the BOS token in front where the tokenizer has one."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if not texts:
        return []
    return [start + ids for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def encode_examples(
    tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str], answers: Sequence[str]
) -> list[tuple[list[int], int]]:
    """Convert prompts with their answers to token ids.

    Prompt and answer are tokenized as one text, as the model will read them.

    Args:
        tokenizer: the model's tokenizer.
        prompts: N prompts.
        answers: N answers.

    Returns:
        N pairs: the token ids of BOS (where there is one), prompt, answer and EOS; and how many of them, from the
        first, are BOS and prompt.

    Raises:
        KnowshiftError: the tokenizer merges the end of a prompt with the start of its answer.
    """
    examples = []
    whole = encode(tokenizer, [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)])
    for ids, start, prompt in zip(whole, encode(tokenizer, prompts), prompts, strict=True):
        if ids[: len(start)] != start:
            raise KnowshiftError(
                f"this model's tokenizer joins the end of the prompt {prompt!r} with the answer; change the prompt"
                " template"
            )
        examples.append(([*ids, tokenizer.eos_token_id], len(start)))
    return examples
