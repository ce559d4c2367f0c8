"""Continuous batching with chunked prefill: the choice of the tokens that each forward pass of the torch engine reads.

A pass reads the next token of every sample under way (decode). What is left of it reads tokens of prompts (prefill), of
which the last may be cut and continued in the next pass. A finished sample frees its KV cache slot at once.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from operator import eq

import numpy as np
import torch

from knowshift.generation.interface import PromptResult, check_logits
from knowshift.generation.kv_cache import CachedModel, Token
from knowshift.generation.prompt_queue import PromptQueue
from knowshift.generation.sampling import Sampler
from knowshift.randomness import counter_uniform

RECENT_PROMPTS = 16  # how many of the prompts started last are searched for a common beginning


@dataclass(eq=False)
class _Slot:
    """A KV cache slot, and the prompt or sample that is processed in it.

    Attributes:
        index: index of the slot in the cache.
        tokens: ids of the prompt and its forced continuation, or of the prompt and what the sample has come to.
        cached: how many of them, from the first, have their keys and values in the cache.
        prompt: index of the prompt.
        sample: number of the sample; None while the prompt is read, and while its samples wait for their start.
        forced: log-probabilities in nats of the forced tokens so far.
        logits: (V,) logits of the first new token, once the prompt has been read.
        next_tokens: tokens chosen while the prompt was read: when sampling, the first new token of each sample; when
            greedy, the likeliest token after the prompt and after each forced token.
        next_scores: log-probabilities in nats of `next_tokens`; 0 if they are not wanted.
        beginnings: first new tokens of each sample, with their log-probabilities.
        unstarted: numbers of the samples still to be started from this slot.
    """

    index: int
    tokens: list[int] = field(default_factory=list)
    cached: int = 0
    prompt: int = 0
    sample: int | None = None
    forced: list[float] = field(default_factory=list)
    logits: torch.Tensor | None = None
    next_tokens: list[int] = field(default_factory=list)
    next_scores: list[float] = field(default_factory=list)
    beginnings: list[list[tuple[int, float]]] = field(default_factory=list)
    unstarted: deque[int] = field(default_factory=deque)


class Scheduler:
    """Schedules and runs the forward passes of one thread, over prompts that need KV cache slots of one length."""

    def __init__(self, queue: PromptQueue, model: CachedModel, waiting: deque[int]) -> None:
        """Start with empty slots.

        Args:
            queue: the prompts, shared by all threads.
            model: the thread's own cache, with the shared model.
            waiting: indices of the prompts to take, a part of `queue.waiting`.
        """
        self.queue, self.model, self.waiting = queue, model, waiting
        self.sampler = Sampler()
        self.free = deque(_Slot(index) for index in range(model.tokens_per_pass))
        self.prefilling: deque[_Slot] = deque()
        self.prefilled: deque[_Slot] = deque()  # with samples to start
        self.generating: list[_Slot] = []
        self.recent: deque[_Slot] = deque(maxlen=RECENT_PROMPTS)  # slots in which prompts were started last

    def run(self) -> None:
        """Run forward passes until no prompt waits and all samples are finished, or the queue is stopped."""
        while not self.queue.stopped:
            self._start_samples()
            spans = self._gather()
            if not spans:
                return
            tokens = [
                Token(slot.tokens[position], slot.index, position)
                for slot, positions in spans
                for position in positions
            ]
            read = [(slot, position) for slot, positions in spans for position in positions]
            wanted = [index for index, (slot, position) in enumerate(read) if position >= self._prompt_length(slot) - 1]
            logits = self.model.forward(tokens, wanted)
            if wanted:
                prompts = [self.queue.prompts[read[index][0].prompt] for index in wanted]
                check_logits(logits, prompts.__getitem__, self.model.model.dtype)
            for slot, positions in spans:
                slot.cached = positions.stop
            read = [read[index] for index in wanted]
            self._score_forced(read, logits)
            self._choose(read, logits)
            self._finish_prompts()

    def _prompt_length(self, slot: _Slot) -> int:
        """Count the tokens of the slot's prompt."""
        return len(self.queue.prompts[slot.prompt].ids)

    def _start_samples(self) -> None:
        """Start samples of prompts that have been read: one in the prompt's own slot, others in free slots."""
        for source in list(self.prefilled):
            ids = self.queue.prompts[source.prompt].ids
            while source.unstarted and (source.sample is None or self.free):
                sample = source.unstarted.popleft()
                beginning = source.beginnings[sample]
                if not all(self.queue.accept(source.prompt, sample, *chosen) for chosen in beginning):
                    continue
                slot = source if source.sample is None else self.free.popleft()
                slot.tokens = [*ids, *(token for token, _ in beginning)]
                slot.cached = len(slot.tokens) - 1
                slot.prompt, slot.sample = source.prompt, sample
                if slot is not source:
                    self.model.copy_slot(source.index, slot.index, slot.cached)
                self.generating.append(slot)
            if not source.unstarted:
                self.prefilled.remove(source)
                if source.sample is None:
                    self.free.append(source)

    def _gather(self) -> list[tuple[_Slot, range]]:
        """Choose the positions of slots that the next pass reads: samples first, then prompts, the last maybe cut."""
        slots, spans, room = deque([*self.generating, *self.prefilling]), [], self.model.tokens_per_pass
        while room and (slots or self._admit(slots)):
            slot = slots.popleft()
            positions = range(slot.cached, min(slot.cached + room, len(slot.tokens)))
            spans.append((slot, positions))
            room -= len(positions)
        return spans

    def _admit(self, slots: deque[_Slot]) -> bool:
        """Give a waiting prompt a slot, and copy the beginning that it shares with what another slot holds.

        Args:
            slots: the slots that the next pass may still read; the prompt's is added.

        Returns:
            Whether a prompt waited and a slot was free.
        """
        with self.queue.lock:
            if not (self.waiting and self.free):
                return False
            index = self.waiting.popleft()
        prompt = self.queue.prompts[index]
        shared, source = 0, None
        for recent in self.recent:
            length = _common_length(recent.tokens[: recent.cached], prompt.ids[:-1])
            if source is None or length > shared:
                shared, source = length, recent
        if source is not None and source in self.free:
            self.free.remove(slot := source)
        else:
            slot = self.free.popleft()
            if source is not None and shared:
                self.model.copy_slot(source.index, slot.index, shared)
        slot.prompt, slot.tokens, slot.cached = index, [*prompt.ids, *prompt.forced], shared
        slot.forced, slot.next_tokens, slot.next_scores = [], [], []
        self.prefilling.append(slot)
        self.recent.append(slot)
        slots.append(slot)
        return True

    def _score_forced(self, read: Sequence[tuple[_Slot, int]], logits: torch.Tensor) -> None:
        """Take the log-probabilities of forced tokens from the logits of a pass.

        Args:
            read: W slots with the positions that the logits follow.
            logits: (W, V).
        """
        forced = [
            (index, slot, slot.tokens[position + 1])
            for index, (slot, position) in enumerate(read)
            if slot.sample is None and position + 1 < len(slot.tokens)
        ]
        if forced:
            indices, slots, tokens = zip(*forced, strict=True)
            scores = logits[list(indices)].float().log_softmax(-1)
            for slot, score in zip(slots, scores[range(len(tokens)), list(tokens)].tolist(), strict=True):
                slot.forced.append(score)

    def _choose(self, read: Sequence[tuple[_Slot, int]], logits: torch.Tensor) -> None:
        """Choose the tokens that follow, and end or continue samples with them.

        Args:
            read: W slots with the positions that the logits follow.
            logits: (W, V).
        """
        decoding, prompts = self.queue.decoding, self.queue.prompts
        draws: list[
            tuple[int, _Slot, int, int]
        ] = []  # row of the logits, slot, stream key, and number of the new token
        for index, (slot, position) in enumerate(read):
            step = position + 1 - self._prompt_length(slot)
            if slot.sample is not None:
                draws.append((index, slot, prompts[slot.prompt].keys[slot.sample], step))
            elif step == 0 or not decoding.temperature:
                slot.logits = logits[index] if step == 0 else slot.logits
                keys = prompts[slot.prompt].keys if decoding.temperature else (0,)
                draws += [(index, slot, key, step) for key in keys]
        if not draws:
            return
        indices, slots, keys, steps = zip(*draws, strict=True)
        if indices != tuple(range(len(logits))):
            logits = logits[list(indices)]
        uniforms = counter_uniform(np.array(keys, dtype=np.uint64), np.array(steps))
        chosen = self.sampler.pick(logits, decoding.temperature, uniforms)
        scores = [0.0] * len(slots)
        if self.queue.on_scores:
            scores = logits.float().log_softmax(-1).gather(1, chosen[:, None])[:, 0].tolist()
        for slot, token, score in zip(slots, chosen.tolist(), scores, strict=True):
            if slot.sample is None:
                slot.next_tokens.append(token)
                slot.next_scores.append(score)
            elif self.queue.accept(slot.prompt, slot.sample, token, score):
                slot.tokens.append(token)
            else:
                self.generating.remove(slot)
                slot.sample = None
                if not slot.unstarted:
                    self.free.append(slot)

    def _finish_prompts(self) -> None:
        """Report the prompts that have been read to their end, and prepare the start of their samples.

        A greedy answer begins with as many tokens as agree with the forced ones: as long as the likeliest token is the
        forced one, the token after it is known too.
        """
        for slot in [slot for slot in self.prefilling if slot.cached == len(slot.tokens)]:
            self.prefilling.remove(slot)
            prompt = self.queue.prompts[slot.prompt]
            chosen = list(zip(slot.next_tokens, slot.next_scores, strict=True))
            if self.queue.decoding.temperature:
                slot.beginnings = [[first] for first in chosen]
            else:
                agreed = sum(1 for _ in takewhile(bool, map(eq, slot.next_tokens, prompt.forced)))
                slot.beginnings = [chosen[: agreed + 1]] * len(prompt.keys)
            slot.unstarted = deque(range(len(prompt.keys)))
            self.prefilled.append(slot)
            if self.queue.on_prompt:
                assert slot.logits is not None  # the pass over the prompt's last token has set them
                with self.queue.lock:
                    self.queue.on_prompt(PromptResult(slot.prompt, slot.logits, slot.forced))
            slot.logits = None  # a view that would keep the logits of the whole pass in memory


def _common_length(tokens: Sequence[int], others: Sequence[int]) -> int:
    """Count the first tokens that two sequences share."""
    return next(
        (index for index, (a, b) in enumerate(zip(tokens, others, strict=False)) if a != b),
        min(len(tokens), len(others)),
    )
