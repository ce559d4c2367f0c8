"""The queue of prompts that the threads of one generation share, with the outputs collected so far."""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from knowshift.generation.interface import Decoding, Prompt, PromptResult

LENGTH_BUCKET = 32  # tokens; prompts whose lengths round up to the same multiple of this share a KV cache
VECTOR = 16  # the length of a KV cache slot is a multiple of this many tokens


class PromptQueue:
    """Prompts that wait, outputs, and callbacks of one call of `Engine.generate`, shared by all its threads.

    Attributes:
        waiting: indices of the prompts not yet started, by the length of the KV cache slot (in tokens) that they need.
            They are ordered by their tokens, so that prompts that begin alike are neighbours.
        outputs: ids of the new tokens, indexed by prompt and sample.
        scores: log-probabilities in nats of the new tokens, the end token included, if they are wanted.
        lock: held while `waiting` or a callback is used.
        stopped: tells every thread to end before its next forward pass.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        on_prompt: Callable[[PromptResult], None] | None,
        on_done: Callable[[int, int], None] | None,
        on_scores: Callable[[int, int, list[float]], None] | None = None,
    ) -> None:
        """Sort the prompts into `waiting`; for the arguments see `GenerationEngine.generate`."""
        self.prompts, self.decoding, self.on_prompt, self.on_done = prompts, decoding, on_prompt, on_done
        self.on_scores = on_scores
        self.outputs: list[list[list[int]]] = [[[] for _ in prompt.keys] for prompt in prompts]
        self.scores: list[list[list[float]]] = [[[] for _ in prompt.keys] for prompt in prompts] if on_scores else []
        self.lock, self.stopped = threading.Lock(), False
        self.waiting: dict[int, deque[int]] = defaultdict(deque)
        for index in sorted(range(len(prompts)), key=lambda index: prompts[index].ids):
            prompt = prompts[index]
            room = max(decoding.max_new_tokens - 1, len(prompt.forced))
            length = _round_up(_round_up(len(prompt.ids), LENGTH_BUCKET) + room, VECTOR)
            self.waiting[length].append(index)

    def accept(self, index: int, sample: int, token: int, score: float) -> bool:
        """Append a new token to the output of a sample, unless it is an end token.

        Args:
            index: index of the prompt.
            sample: number of the sample.
            token: id of the token.
            score: its log-probability in nats, if scores are wanted.

        Returns:
            Whether the sample goes on.
        """
        output = self.outputs[index][sample]
        if self.on_scores:
            self.scores[index][sample].append(score)
        if token not in self.decoding.end_ids:
            output.append(token)
            if len(output) < self.decoding.max_new_tokens:
                return True
        with self.lock:
            if self.on_scores:
                self.on_scores(index, sample, self.scores[index][sample])
            if self.on_done:
                self.on_done(index, sample)
        return False


def _round_up(length: int, multiple: int) -> int:
    """Round a length up to a multiple."""
    return -(-length // multiple) * multiple
