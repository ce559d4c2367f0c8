"""The generation engine on torch and transformers, used for probing and evaluation.

Its results are exact by construction. The random number of a token depends only on the stream key of its sample and on
the number of the token. Every forward pass reads `tokens_per_pass` tokens, padding included: the next token of each
sample under way, and as many tokens of waiting prompts as there is room for. A token's logits depend only on the tokens
before it and on the length of the KV cache slot, which follows from the prompt. So no result depends on the order of
prompts, on other prompts, on where a prompt is cut, or on interruptions. On a CPU every thread runs passes of its own,
so the number of threads changes nothing either.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import cast

import torch
from transformers import PreTrainedModel

from knowshift.generation.batching import Scheduler
from knowshift.generation.interface import Decoding, Prompt, PromptResult, check_lengths
from knowshift.generation.kv_cache import ATTENTION, CachedModel, Token, register_attention
from knowshift.generation.packed_linears import InBlocks, pack_linears
from knowshift.generation.prompt_queue import VECTOR, PromptQueue
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.positions import learned_positions

TRIAL = 6  # tokens of the first pass, which is compared
TOLERANCE, HALF_TOLERANCE = 1e-3, 0.3  # of the norm of its logits, by the type that a model computes in


@torch.inference_mode()
def _plain_logits(model: PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    """Compute the logits after some tokens with the model as it is, (V,) in float32."""
    return model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1].float()


class Engine:
    """Completes prompts with a causal language model of transformers; a `GenerationEngine`."""

    def __init__(self, model: PreTrainedModel, tokens_per_pass: int = 64, threads: int | None = None) -> None:
        """Prepare a model in place: replace its attention, wrap its output layer, and on a CPU pack its linear layers.

        Args:
            model: a model in evaluation mode, which the engine takes over. Its layers are laid out for
                `tokens_per_pass`: for exact results, another engine of the same model must have the same.
            tokens_per_pass: tokens of a forward pass, and the most samples under way at once in a thread. It changes
                low bits of results.
            threads: on a CPU, the number of passes that run side by side, each on one thread. It changes no result.
                None takes torch's number of threads.

        Raises:
            KnowshiftError: the model's attention cannot be replaced, it has no output layer, or a first pass fails or
                gives other logits than the model itself does.
        """
        refusal = f"engine: torch cannot run {type(model).__name__}; set engine: generate (or vllm, on CUDA machines)"
        if not model.is_backend_compatible() or model.get_output_embeddings() is None:
            raise KnowshiftError(refusal)
        taken_over = isinstance(model.get_output_embeddings(), InBlocks)
        tokens = cast(torch.Tensor, model.get_input_embeddings().weight).shape[0]
        trial = [(3 + 7 * index) % tokens for index in range(min(TRIAL, tokens_per_pass))]
        expected = None if taken_over else _plain_logits(model, trial)
        register_attention()
        model.set_attn_implementation(ATTENTION)
        self.model, self.tokens_per_pass, self.positions = model, tokens_per_pass, learned_positions(model)
        self.workers = (threads or torch.get_num_threads()) if model.device.type == "cpu" else 1
        pack_linears(model, tokens_per_pass, model.get_output_embeddings())
        head = cast(torch.nn.Module, model.get_output_embeddings())
        layer = head.layer if isinstance(head, InBlocks) else head
        model.set_output_embeddings(InBlocks(layer, max(1, tokens_per_pass // 2)))
        if expected is not None and not self._agrees(trial, expected):
            raise KnowshiftError(refusal)

    @torch.inference_mode()
    def _agrees(self, ids: Sequence[int], expected: torch.Tensor) -> bool:
        """Tell whether a pass over a few tokens gives the logits (V,) that the model itself gives after them."""
        tokens = [Token(token, 0, position) for position, token in enumerate(ids)]
        try:
            got = CachedModel(self.model, self.tokens_per_pass, VECTOR).forward(tokens, [len(ids) - 1])[0]
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False
        if not expected.isfinite().all():
            return True  # what is wrong is the model; the first prompt says so
        tolerance = TOLERANCE if self.model.dtype == torch.float32 else HALF_TOLERANCE
        return bool((got.float() - expected).norm() <= tolerance * expected.norm())

    def generate(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        on_prompt: Callable[[PromptResult], None] | None = None,
        on_done: Callable[[int, int], None] | None = None,
        top_logits: int | None = None,
        on_scores: Callable[[int, int, list[float]], None] | None = None,
    ) -> list[list[list[int]]]:
        """Complete every prompt, once per sample; see `GenerationEngine.generate`.

        Any thread may call `on_prompt`, `on_done` and `on_scores`, one call at a time. `top_logits` is not used: this
        engine gives all logits.
        """
        check_lengths(prompts, decoding.max_new_tokens, self.positions)
        queue = PromptQueue(prompts, decoding, on_prompt, on_done, on_scores)
        if self.model.device.type != "cpu":
            self._run(queue)
            return queue.outputs
        before = torch.get_num_threads()
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            running = [pool.submit(self._run, queue) for _ in range(self.workers)]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            finally:  # after an error or an interruption the other threads end too; otherwise all have ended
                queue.stopped = True
        torch.set_num_threads(before)  # what the pool's threads set holds for the whole process in part
        for thread in running:
            thread.result()
        return queue.outputs

    @torch.inference_mode()
    def _run(self, queue: PromptQueue) -> None:
        """Complete prompts in one thread, those with the shortest KV cache slots first."""
        for length in sorted(queue.waiting):
            Scheduler(queue, CachedModel(self.model, self.tokens_per_pass, length), queue.waiting[length]).run()
