"""Transformers' own `generate` as a generation engine: slower than the torch engine, and for every causal model.

It takes what the torch engine cannot run: attention sinks, short windows, a bias by distance (ALiBi), states instead
of keys and values. Tokens are drawn as the torch engine draws them, from the same streams, so completions differ only
where low bits of logits decide. The samples of one prompt are one batch, so no result depends on other prompts.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from knowshift.generation.interface import Decoding, Prompt, PromptResult, check_lengths, check_logits
from knowshift.generation.sampling import Sampler
from knowshift.randomness import counter_uniform
from knowshift.weights.positions import learned_positions


class GenerateEngine:
    """Completes prompts with `generate` of transformers; a `GenerationEngine`."""

    def __init__(self, model: PreTrainedModel, tokens_per_pass: int = 64) -> None:
        """Take over a model.

        Args:
            model: a model in evaluation mode.
            tokens_per_pass: the most samples of a prompt in one batch.
        """
        self.model, self.rows, self.positions = model, tokens_per_pass, learned_positions(model)
        model.generation_config = GenerationConfig()  # or penalties and limits that come with the model would count
        self.sampler = Sampler()

    def generate(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        on_prompt: Callable[[PromptResult], None] | None = None,
        on_done: Callable[[int, int], None] | None = None,
        top_logits: int | None = None,
        on_scores: Callable[[int, int, list[float]], None] | None = None,
    ) -> list[list[list[int]]]:
        """Complete every prompt, once per sample; see `GenerationEngine.generate`. `top_logits` is not used."""
        check_lengths(prompts, decoding.max_new_tokens, self.positions)
        outputs = []
        for index, prompt in enumerate(prompts):
            forced = self._score(prompt) if on_prompt else []
            keys = prompt.keys if decoding.temperature else prompt.keys[:1]  # greedy samples are all the same
            done: list[_Sample] = []
            for start in range(0, len(keys), self.rows):
                chooser = self._complete(prompt, keys[start : start + self.rows], decoding, bool(on_scores))
                done += chooser.samples
                if on_prompt and start == 0:
                    on_prompt(PromptResult(index, chooser.first, forced))
            done *= len(prompt.keys) // len(done)
            for sample, found in enumerate(done):
                if on_scores:
                    on_scores(index, sample, found.scores)
                if on_done:
                    on_done(index, sample)
            outputs.append([[*found.ids] for found in done])
        return outputs

    @torch.inference_mode()
    def _complete(self, prompt: Prompt, keys: Sequence[int], decoding: Decoding, score: bool) -> "_Chooser":
        """Complete one prompt once per stream key."""
        ids = torch.tensor([prompt.ids] * len(keys), device=self.model.device)
        chooser = _Chooser(self.sampler, prompt, keys, decoding, self.model.dtype, score)
        config = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            do_sample=False,  # of the one token that the chooser leaves
            eos_token_id=sorted(decoding.end_ids) or None,
            pad_token_id=min(decoding.end_ids, default=0),
        )
        chosen = LogitsProcessorList([chooser])
        self.model.generate(  # pyright: ignore[reportCallIssue] (its stub lacks the class's own)
            ids, attention_mask=torch.ones_like(ids), generation_config=config, logits_processor=chosen
        )
        return chooser

    @torch.inference_mode()
    def _score(self, prompt: Prompt) -> list[float]:
        """Compute the log-probabilities in nats of a prompt's forced continuation."""
        if not prompt.forced:
            return []
        ids = torch.tensor([[*prompt.ids, *prompt.forced]], device=self.model.device)
        logits = self.model(input_ids=ids, use_cache=False).logits[0, len(prompt.ids) - 1 : -1]
        check_logits(logits, lambda _: prompt, self.model.dtype)
        tokens = ids[0, len(prompt.ids) :, None]
        return logits.float().log_softmax(-1).gather(1, tokens)[:, 0].tolist()


class _Sample:
    """A completion under way: its tokens, their log-probabilities in nats, and whether it has ended."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.scores: list[float] = []
        self.ended = False


class _Chooser(LogitsProcessor):
    """Chooses the next token of every sample, and leaves `generate` no other.

    Attributes:
        samples: one per stream key.
        first: (V,) logits of the first new token.
    """

    def __init__(
        self,
        sampler: Sampler,
        prompt: Prompt,
        keys: Sequence[int],
        decoding: Decoding,
        dtype: torch.dtype,
        score: bool,
    ) -> None:
        self._sampler, self._prompt, self._keys = sampler, prompt, np.array(keys, dtype=np.uint64)
        self._decoding, self._dtype, self._score = decoding, dtype, score
        self.samples = [_Sample() for _ in keys]
        self.first = torch.empty(0)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.FloatTensor:
        """Choose from logits of shape (samples, V); return 0 for each chosen token, and -inf for all others."""
        step = input_ids.shape[1] - len(self._prompt.ids)
        going = [index for index, sample in enumerate(self.samples) if not sample.ended]
        check_logits(scores[going], lambda _: self._prompt, self._dtype)
        if step == 0:
            self.first = scores[0].clone()
        uniforms = counter_uniform(self._keys, np.full(len(self._keys), step))
        chosen = self._sampler.pick(scores, self._decoding.temperature, uniforms)
        found = scores.log_softmax(-1).gather(1, chosen[:, None])[:, 0].tolist() if self._score else []
        for index in going:
            sample, token = self.samples[index], int(chosen[index])
            if self._score:
                sample.scores.append(found[index])
            if token in self._decoding.end_ids:
                sample.ended = True
            else:
                sample.ids.append(token)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter_(1, chosen[:, None], 0.0)  # pyright: ignore[reportReturnType] (a tensor of floats)
