"""Conversion of texts to token ids, the same for probing, training and evaluation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from knowshift.allowed_values import Bos
from knowshift.runtime.errors import KnowshiftError, shown
from knowshift.runtime.time_limit import at_most

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# A template's call for today's date in a format of its own, and any call for it.
_TODAY = re.compile(r"""\bstrftime_now\(\s*(["'])(.*?)\1\s*\)""")
_TODAY_CALLED = re.compile(r"\bstrftime_now\s*\(")

_NAME = re.compile(r"[A-Za-z_]\w*")

ROWS = "embedding_rows"  # the attribute of a loaded tokenizer that holds the rows of its model's embedding, if known
OTHER_PROMPT = "set its prompt to study (models.NAME.instruct.prompt, or models.NAME.tuned.NAME.prompt)"
SHORTEST_CONTROL = 3  # characters, as <s>
LONGEST_CHAT = 100_000  # characters that a template may add to a question


@dataclass(frozen=True)
class ChatPrompt:
    """The prompt of a chat model: a question in the chat template of its tokenizer.

    Attributes:
        tokenizer: the model's tokenizer, with a chat template.
        request: what is asked of the answer, after the question; may be empty.
        pinned_date: the date (YYYY-MM-DD) that a template which names today's is given instead.
        thinking: whether a template that knows a thinking mode switches it on.
        template_args: further arguments of the template, by name.
        system: a system message before the question; an empty text sends none.
    """

    tokenizer: "PreTrainedTokenizerBase"
    request: str = ""
    pinned_date: str = "2025-01-01"
    thinking: bool = False
    template_args: Mapping[str, Any] = field(default_factory=dict)
    system: str = ""

    def __post_init__(self) -> None:
        """Check the tokenizer.

        Raises:
            KnowshiftError: the tokenizer has no chat template, or it does not know one of the arguments.
        """
        if not self.tokenizer.chat_template:
            raise KnowshiftError(f"this model's tokenizer has no chat template; {OTHER_PROMPT}")
        known = set(_NAME.findall(_template_of(self.tokenizer)))
        if odd := sorted(set(self.template_args) - known):
            raise KnowshiftError(
                f"this model's chat template does not know {odd[0]}, which chat.template_args gives it; leave"
                " it out, or correct its name"
            )

    def ask(self, question: str) -> str:
        """Format a question as one message of a user, up to where the model answers; see `converse`."""
        return self.converse([{"role": "user", "content": f"{question} {self.request}".rstrip()}])

    def converse(self, messages: Sequence[dict[str, str]]) -> str:
        """Format a conversation, up to where the model answers. One with a system message gets no other.

        Special tokens are written as their text, BOS among them where the template has it: `encode` adds none to it.

        Args:
            messages: each with its role and content, the last one of the user.

        Raises:
            KnowshiftError: the template computes with today's date, so it cannot be pinned; or it fails, takes too long
                or writes too much.
        """
        try:
            with at_most(f"this model's chat template does not come to an end; {OTHER_PROMPT}"):
                text = self._format(messages)
        except KnowshiftError:
            raise
        except Exception as error:  # whatever a template raises, such as jinja's SecurityError
            reason = (str(error).splitlines() or [""])[0]
            raise KnowshiftError(
                f"this model's chat template fails ({type(error).__name__}: {reason}); {OTHER_PROMPT}"
            ) from None
        if len(text) > LONGEST_CHAT + sum(len(message["content"]) for message in messages):
            raise KnowshiftError(
                f"this model's chat template makes {len(text):,} characters of a question; {OTHER_PROMPT}"
            )
        return text

    def _format(self, messages: Sequence[dict[str, str]]) -> str:
        """Format a conversation, without any bound."""
        today = date.fromisoformat(self.pinned_date)
        template = _TODAY.sub(lambda match: repr(today.strftime(match[2])), _template_of(self.tokenizer))
        if _TODAY_CALLED.search(template):
            raise KnowshiftError(f"this model's chat template computes with today's date; {OTHER_PROMPT}")
        own = messages[0]["role"] == "system"
        system = [{"role": "system", "content": self.system}] if self.system and not own else []
        text = self.tokenizer.apply_chat_template(
            [*system, *messages],
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
            # What templates call the date and the mode of thinking; a template uses those that it knows.
            **{
                "date_string": today.strftime("%d %b %Y"),
                "enable_thinking": self.thinking,
                "thinking": self.thinking,
                **self.template_args,
            },
        )
        assert isinstance(text, str)  # one conversation, not tokenized
        return text

    def reply(self, answer: str) -> str:
        """Format an answer as it follows the formatted question: unchanged."""
        return answer


def _template_of(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a tokenizer's chat template: its only one, or the one called default of several.

    Raises:
        KnowshiftError: it has several, and none is called default.
    """
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise KnowshiftError(
            f"this model's tokenizer offers no chat template to take ({reason}); {OTHER_PROMPT}"
        ) from None


def check_ids(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
    """Check that a model can read the token ids of texts: that there are some, and all are below its embedding.

    Raises:
        KnowshiftError: names the first text that has none, or a token that the model has no embedding of.
    """
    rows = getattr(tokenizer, ROWS, None)
    for text, found in zip(texts, ids, strict=True):
        if not found:
            raise KnowshiftError(f"this model's tokenizer makes no token of {shown(text)}; change the text")
        if rows is not None and (highest := max(found)) >= rows:
            token = tokenizer.convert_ids_to_tokens(highest)
            raise KnowshiftError(
                f"{shown(text)} holds the token {token!r}, whose id {highest:,} is beyond the {rows:,} rows of the"
                " model's embedding: tokens were added to its tokenizer and the embedding was not resized; resize it"
                " (resize_token_embeddings) and save the model anew, or change the text"
            )


def control_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """List the control tokens of a tokenizer, sorted, which a model does not read as text where they are written in it.

    What is as short as punctuation, or a plain word, is left out: some tokenizers pad with `!`.
    """
    known = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return sorted(token for token in known if len(token) >= SHORTEST_CONTROL and not token.isalnum())


def line_break_ids(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """Return the ids of the tokens that hold line breaks and nothing else."""
    ids = list(range(len(tokenizer)))
    texts = tokenizer.batch_decode([[token] for token in ids])
    return frozenset(token for token, text in zip(ids, texts, strict=True) if text and not text.strip("\n"))


def starts_with_bos(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Tell whether the tokenizer itself puts BOS before a plain text, as LLaMA's does and GPT-2's does not."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][:1] == [bos]


def encode(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], bos: Bos = "as_tokenizer") -> list[list[int]]:
    """Convert texts to token ids.

    Args:
        tokenizer: the model's tokenizer.
        texts: the texts; special tokens that are written in them become these tokens.
        bos: whether each begins with the BOS token: where the tokenizer itself adds one to plain text (as_tokenizer),
            always, or never. Formatted chats take never, because their template has put it where it belongs.

    Raises:
        KnowshiftError: BOS is always wanted, and the tokenizer has none; or as `check_ids`.
    """
    if bos == "always" and tokenizer.bos_token_id is None:
        raise KnowshiftError("models.*.bos is always, but this model's tokenizer has no BOS token")
    if not texts:
        return []
    wanted = bos == "always" or (bos == "as_tokenizer" and starts_with_bos(tokenizer))
    start = [tokenizer.bos_token_id] if wanted else []
    found = [start + ids for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
    check_ids(tokenizer, texts, found)
    return found


def encode_examples(
    tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str], answers: Sequence[str], bos: Bos = "as_tokenizer"
) -> list[tuple[list[int], int]]:
    """Convert prompts with their answers to token ids.

    Prompt and answer are tokenized as one text, as the model will read them.

    Args:
        tokenizer: the model's tokenizer.
        prompts: N prompts.
        answers: N answers.
        bos: whether BOS stands before a prompt, see `encode`.

    Returns:
        N pairs: the token ids of BOS (where one is put), prompt, answer and EOS; and how many of them, from the
        first, are BOS and prompt.

    Raises:
        KnowshiftError: the tokenizer merges the end of a prompt with the start of its answer.
    """
    examples = []
    whole = encode(tokenizer, [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)], bos)
    for ids, start, prompt in zip(whole, encode(tokenizer, prompts, bos), prompts, strict=True):
        if ids[: len(start)] != start:
            raise KnowshiftError(
                f"this model's tokenizer joins the end of the prompt {prompt!r} with the answer; change the prompt"
                " template"
            )
        examples.append(([*ids, tokenizer.eos_token_id], len(start)))
    return examples
