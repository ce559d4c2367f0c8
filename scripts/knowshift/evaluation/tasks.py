"""The tasks that a model has to go on doing: asking it their examples."""

from collections.abc import Callable, Sequence

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from knowshift.allowed_values import Bos
from knowshift.configuration.tasks import AskedTask
from knowshift.evaluation.schemas import TASK_OUTCOMES
from knowshift.facts.task_examples import Example
from knowshift.generation.interface import Decoding, GenerationEngine, Prompt, PromptResult
from knowshift.models.tokenizing import ChatPrompt, encode, encode_examples
from knowshift.runtime.errors import KnowshiftError


def answer_examples(
    engine: GenerationEngine,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    task: AskedTask,
    seed: int,
    end_ids: frozenset[int],
    longest: int | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Ask a model the examples of a task.

    A prompt is read as it is. A conversation is put into the tokenizer's chat template; without one, its messages
    stand one after another, each followed by an empty line.

    Args:
        engine: the model.
        tokenizer: the model's tokenizer.
        examples: N examples.
        task: how they are asked.
        seed: the experiment's seed, which divides the examples into halves.
        end_ids: ids of the tokens that end an answer.
        longest: how many tokens of a prompt and its answer the model can read; None if that is not known.
        on_done: called with (number of the example, 0) whenever one is done.

    Returns:
        N rows in the schema `TASK_OUTCOMES`, in the order of `examples`.

    Raises:
        KnowshiftError: an example is longer than the model can read, or its tokens cannot be told from its answer's.
    """
    prompts = [_prompt(example, tokenizer, task) for example in examples]
    for example, prompt in zip(examples, prompts, strict=True):
        room = len(prompt.ids) + max(task.tokens, len(prompt.forced))
        if longest is not None and room > longest:
            raise KnowshiftError(
                f"task {task.name}, line {example.line}: {room} tokens with the answer, and the model reads"
                f" {longest}; shorten the example, or lower max_new_tokens"
            )
    forced = task.metric == "loglikelihood"
    logprobs: list[float | None] = [None] * len(examples)

    def keep(result: PromptResult) -> None:
        if forced:
            logprobs[result.index] = sum(result.forced) / len(result.forced)

    generated = engine.generate(prompts, Decoding(task.tokens, end_ids), keep, on_done, 1)
    outputs: list[str | None] = [None] * len(examples)
    if not forced:
        outputs = [*tokenizer.batch_decode([ids for (ids,) in generated], skip_special_tokens=True)]
    columns = {
        "example": [example.line for example in examples],
        "half": [example.half(seed) for example in examples],
        "expected": [list(example.expected) for example in examples],
        "output": outputs,
        "logprob": logprobs,
    }
    return pa.table(columns, TASK_OUTCOMES)


def _prompt(example: Example, tokenizer: PreTrainedTokenizerBase, task: AskedTask) -> Prompt:
    """What a model reads of an example, with the expected answer where its log-probability is wanted."""
    text, bos = _text(example, tokenizer, task)
    if task.metric != "loglikelihood":
        return Prompt(tuple(encode(tokenizer, [text], bos)[0]), text=text)
    # As lm-evaluation-harness divides them: white space at the end of a prompt belongs to the answer, and a space
    # stands between them where there is none.
    start, answer = text.rstrip(), example.expected[0]
    between = text[len(start) :] or ("" if answer[0].isspace() else " ")
    try:
        ((ids, length),) = encode_examples(tokenizer, [start], [between + answer], bos)
    except KnowshiftError as error:
        raise KnowshiftError(f"task {task.name}, line {example.line}: {error}") from None
    return Prompt(tuple(ids[:length]), forced=tuple(ids[length:-1]), text=text)


def _text(example: Example, tokenizer: PreTrainedTokenizerBase, task: AskedTask) -> tuple[str, Bos]:
    """The text that a model reads of an example, and whether BOS stands before it.

    A chat template has put BOS where it belongs.
    """
    if isinstance(example.asked, str):
        return example.asked, task.bos
    messages = [{"role": role, "content": content} for role, content in example.asked]
    if tokenizer.chat_template:
        chat = task.chat
        prompt = ChatPrompt(tokenizer, "", chat.date, chat.thinking, chat.template_args, chat.system)
        return prompt.converse(messages), "never"
    return "".join(f"{message['content']}\n\n" for message in messages), task.bos
