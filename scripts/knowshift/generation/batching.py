"""Continuous batching with chunked prefill: what each forward pass of the generation engine reads.

A pass takes the next token of every sample under way (decode) and, in the room that is left, tokens of prompts (prefill), of
which the last may be cut. A row that is finished makes room at once.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from operator import eq

import numpy as np
import torch

from knowshift.generation.interface import Read
from knowshift.generation.kv_cache import Slots, Token
from knowshift.generation.prompt_queue import Work
from knowshift.generation.sampling import Sampler
from knowshift.randomness import counter_uniform

TRAIL = 16  # prompts before that are looked at for a common beginning


@dataclass(eq=False)
class _Row:
    """What goes on in one slot.

    Attributes:
        tokens: of a prompt and what it is forced to, or of a prompt and what a sample has come to.
        read: how many of them the slot holds.
        prompt, sample: which they are of; no sample while a prompt is read, or waits for one to start.
        scores: log-probabilities of forced tokens.
        logits, told: of the first new token; and next tokens: of each sample the first, or of greedy decoding what is likeliest
            after the prompt and after each forced token.
        begun, unstarted: the first new tokens of each sample; samples still to be started from this slot.
    """

    slot: int
    tokens: list[int] = field(default_factory=list)
    read: int = 0
    prompt: int = 0
    sample: int | None = None
    scores: list[float] = field(default_factory=list)
    logits: torch.Tensor | None = None
    told: list[int] = field(default_factory=list)
    begun: list[list[int]] = field(default_factory=list)
    unstarted: deque[int] = field(default_factory=deque)


class Lane:
    """The passes of one thread over prompts whose caches have equally many columns."""

    def __init__(self, work: Work, slots: Slots, waiting: deque[int]) -> None:
        self.work, self.slots, self.waiting = work, slots, waiting
        self.sampler = Sampler()
        self.free = deque(_Row(slot) for slot in range(slots.rows))
        self.prefilling: deque[_Row] = deque()
        self.prefilled: deque[_Row] = deque()  # with samples to start
        self.generating: list[_Row] = []
        self.trail: deque[_Row] = deque(maxlen=TRAIL)  # where prompts were read last

    def run(self) -> None:
        """Until nothing waits and all are finished, or the work is stopped."""
        while not self.work.stopped:
            self._start_samples()
            spans = self._gather()
            if not spans:
                return
            tokens = [Token(row.tokens[column], row.slot, column) for row, columns in spans for column in columns]
            asked = [(row, column) for row, columns in spans for column in columns]
            wanted = [place for place, (row, column) in enumerate(asked) if column >= self._known(row) - 1]
            logits = self.slots.read(tokens, wanted)
            for row, columns in spans:
                row.read = columns.stop
            asked = [asked[place] for place in wanted]
            self._score_forced(asked, logits)
            self._choose(asked, logits)
            self._finish_prompts()

    def _known(self, row: _Row) -> int:
        """How many tokens the row's prompt has."""
        return len(self.work.prompts[row.prompt].ids)

    def _start_samples(self) -> None:
        """Start samples of prompts that have been read: one where its prompt is, others in free slots."""
        for source in list(self.prefilled):
            ids = self.work.prompts[source.prompt].ids
            while source.unstarted and (source.sample is None or self.free):
                sample = source.unstarted.popleft()
                begun = source.begun[sample]
                if not all(self.work.accept(source.prompt, sample, token) for token in begun):
                    continue
                row = source if source.sample is None else self.free.popleft()
                row.tokens, row.read = [*ids, *begun], len(ids) + len(begun) - 1
                row.prompt, row.sample = source.prompt, sample
                if row is not source:
                    self.slots.copy(source.slot, row.slot, row.read)
                self.generating.append(row)
            if not source.unstarted:
                self.prefilled.remove(source)
                if source.sample is None:
                    self.free.append(source)

    def _gather(self) -> list[tuple[_Row, range]]:
        """What the next pass reads: columns of rows. Samples come first, then prompts; the last of them may be cut."""
        rows, spans, room = deque([*self.generating, *self.prefilling]), [], self.slots.rows
        while room and (rows or self._admit(rows)):
            row = rows.popleft()
            columns = range(row.read, min(row.read + room, len(row.tokens)))
            spans.append((row, columns))
            room -= len(columns)
        return spans

    def _admit(self, rows: deque[_Row]) -> bool:
        """Let a waiting prompt have a slot; of its beginning, what another slot holds is copied."""
        with self.work.lock:
            if not (self.waiting and self.free):
                return False
            index = self.waiting.popleft()
        prompt = self.work.prompts[index]
        shared, source = max(
            ((_common(row.tokens[: row.read], prompt.ids[:-1]), row) for row in self.trail),
            key=lambda found: found[0],
            default=(0, None),
        )
        if source in self.free:
            self.free.remove(row := source)
        else:
            row = self.free.popleft()
            if shared:
                self.slots.copy(source.slot, row.slot, shared)
        row.prompt, row.tokens, row.read = index, [*prompt.ids, *prompt.forced], shared
        row.scores, row.told = [], []
        self.prefilling.append(row)
        self.trail.append(row)
        rows.append(row)
        return True

    def _score_forced(self, asked: Sequence[tuple[_Row, int]], logits: torch.Tensor) -> None:
        """Take the log-probabilities of forced tokens from the (W, V) logits after some columns of rows."""
        forced = [
            (place, row, row.tokens[column + 1])
            for place, (row, column) in enumerate(asked)
            if row.sample is None and column + 1 < len(row.tokens)
        ]
        if forced:
            places, rows, tokens = zip(*forced, strict=True)
            scores = logits[list(places)].float().log_softmax(-1)
            for row, score in zip(rows, scores[range(len(tokens)), list(tokens)].tolist(), strict=True):
                row.scores.append(score)

    def _choose(self, asked: Sequence[tuple[_Row, int]], logits: torch.Tensor) -> None:
        """Choose what follows some columns of rows, by their (W, V) logits."""
        decoding, prompts = self.work.decoding, self.work.prompts
        draws: list[tuple[int, _Row, int, int]] = []  # place, row, key and step
        for place, (row, column) in enumerate(asked):
            step = column + 1 - self._known(row)
            if row.sample is not None:
                draws.append((place, row, prompts[row.prompt].keys[row.sample], step))
            elif step == 0 or not decoding.temperature:
                row.logits = logits[place] if step == 0 else row.logits
                keys = prompts[row.prompt].keys if decoding.temperature else (0,)
                draws += [(place, row, key, step) for key in keys]
        if not draws:
            return
        places, rows, keys, steps = zip(*draws, strict=True)
        if places != tuple(range(len(logits))):
            logits = logits[list(places)]
        uniforms = counter_uniform(np.array(keys, dtype=np.uint64), np.array(steps))
        for row, token in zip(rows, self.sampler.pick(logits, decoding.temperature, uniforms).tolist(), strict=True):
            if row.sample is None:
                row.told.append(token)
            elif self.work.accept(row.prompt, row.sample, token):
                row.tokens.append(token)
            else:
                self.generating.remove(row)
                row.sample = None
                if not row.unstarted:
                    self.free.append(row)

    def _finish_prompts(self) -> None:
        """Make ready what follows prompts that have been read to their end.

        Greedy answers begin with as many tokens as the forced ones agree with: as long as the likeliest token is the forced
        one, what follows it is known too.
        """
        for row in [row for row in self.prefilling if row.read == len(row.tokens)]:
            self.prefilling.remove(row)
            prompt = self.work.prompts[row.prompt]
            if self.work.decoding.temperature:
                row.begun = [[token] for token in row.told]
            else:
                agreed = sum(1 for _ in takewhile(bool, map(eq, row.told, prompt.forced)))
                row.begun = [row.told[: agreed + 1]] * len(prompt.keys)
            row.unstarted = deque(range(len(prompt.keys)))
            self.prefilled.append(row)
            if self.work.on_read:
                with self.work.lock:
                    self.work.on_read(Read(row.prompt, row.logits, row.scores))
            row.logits = None  # it holds those of the whole pass


def _common(tokens: Sequence[int], others: Sequence[int]) -> int:
    """How many first tokens are the same."""
    return next(
        (place for place, (a, b) in enumerate(zip(tokens, others, strict=False)) if a != b),
        min(len(tokens), len(others)),
    )
