"""vLLM as a generation engine, for machines with CUDA GPUs, behind the same interface as the torch engine.

vLLM draws tokens in its own way, by a seed per sample: its completions differ from those of the torch engine, but come
from the same distribution. Its first-token values are log-probabilities, which differ from logits by one constant per
prompt; neither the divergence nor the order of tokens depends on that constant. Low bits depend on what is batched
together, so an interrupted job may end with other low bits than an undisturbed one.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from knowshift.generation.interface import Decoding, Prompt, PromptResult, check_logits
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.model_writer import write_parameters
from knowshift.weights.safetensors_files import WeightFiles
from knowshift.weights.stored_places import stored_views

MAX_LENGTH = 2048  # tokens of a prompt and its completion; vLLM reserves memory for it
MEMORY = Path("/dev/shm")  # a file system in memory, where there is one


class VllmEngine:
    """Completes prompts with vLLM; a `GenerationEngine`."""

    positions: int | None = None  # vLLM refuses by itself what is too long

    def __init__(
        self, model: Path | tuple[PreTrainedModel, Path], dtype: str, tokens_per_pass: int = 256, devices: int = 1
    ) -> None:
        """Load a model into vLLM.

        Args:
            model: a model directory; or a model in memory with the directory of its base, whose configuration it has.
            dtype: the type to compute in, such as bfloat16.
            tokens_per_pass: the most samples under way at once (vLLM's max_num_seqs). vLLM itself decides how many
                tokens of prompts a pass reads besides.
            devices: the number of GPUs to split the model over (tensor parallelism).

        Raises:
            KnowshiftError: vLLM is not installed.
        """
        if isinstance(model, tuple):
            views = stored_views(model[0], WeightFiles(model[1]).names())
            dtypes = {name: view.dtype for name, view in views.items()}
            with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
                write_parameters(Path(folder), model[1], dtypes, views.__getitem__)
                self._load(Path(folder), dtype, tokens_per_pass, devices)
        else:
            self._load(model, dtype, tokens_per_pass, devices)

    def _load(self, directory: Path, dtype: str, tokens_per_pass: int, devices: int) -> None:
        """Load the model of a directory."""
        try:
            # vLLM has an environment of its own.
            from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise KnowshiftError(
                "engine: vllm needs the package vllm in the Python that runs this script; name that Python in the"
                " profile (set-resources: python=…), or set engine: torch"
            ) from None
        self._sampling_params, self._dtype = SamplingParams, getattr(torch, dtype)
        self.llm = LLM(
            str(directory),
            dtype=dtype,
            max_num_seqs=tokens_per_pass,
            max_model_len=MAX_LENGTH,
            tensor_parallel_size=devices,
            logprobs_mode="raw_logprobs",
            max_logprobs=-1,
            seed=0,
            disable_log_stats=True,
        )

    def generate(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        on_prompt: Callable[[PromptResult], None] | None = None,
        on_done: Callable[[int, int], None] | None = None,
        top_logits: int | None = None,
        on_scores: Callable[[int, int, list[float]], None] | None = None,
    ) -> list[list[list[int]]]:
        """Complete every prompt, once per sample; see `GenerationEngine.generate`."""
        shared = {
            "temperature": decoding.temperature,
            "max_tokens": decoding.max_new_tokens,
            "ignore_eos": True,
            "stop_token_ids": sorted(decoding.end_ids),
            "detokenize": False,
        }
        asked = [(index, sample) for index, prompt in enumerate(prompts) for sample in range(len(prompt.keys))]
        wanted = (-1 if top_logits is None else top_logits) if on_prompt else None
        least = 0 if on_scores else None  # of 0 wanted, vLLM gives the chosen token alone
        first = least if wanted is None else wanted
        settings = [
            self._sampling_params(seed=prompts[index].keys[sample], logprobs=least if sample else first, **shared)
            for index, sample in asked
        ]
        answers = self.llm.generate([_token_prompt(prompts[index].ids) for index, _ in asked], settings, use_tqdm=False)
        outputs: list[list[list[int]]] = [[[] for _ in prompt.keys] for prompt in prompts]
        for (index, sample), answer in zip(asked, answers, strict=True):
            ids = list(answer.outputs[0].token_ids)
            outputs[index][sample] = ids[:-1] if ids and ids[-1] in decoding.end_ids else ids
            if on_scores:
                found = zip(ids, answer.outputs[0].logprobs, strict=True)
                on_scores(index, sample, [values[token].logprob for token, values in found])
            if on_done:
                on_done(index, sample)
        if on_prompt:
            forced = self._score_forced(prompts)
            vocabulary = self.llm.llm_engine.model_config.get_vocab_size()
            for (index, sample), answer in zip(asked, answers, strict=True):
                if sample == 0:
                    found = answer.outputs[0].logprobs[0]
                    logits = torch.full((vocabulary,), -math.inf)
                    logits[list(found)] = torch.tensor([value.logprob for value in found.values()])
                    check_logits(logits[None], lambda _, index=index: prompts[index], self._dtype)
                    on_prompt(PromptResult(index, logits, forced[index]))
        return outputs

    def _score_forced(self, prompts: Sequence[Prompt]) -> list[list[float]]:
        """Compute the log-probabilities (nats) of the prompts' forced continuations, one list per prompt."""
        some = [(index, prompt) for index, prompt in enumerate(prompts) if prompt.forced]
        scores: list[list[float]] = [[] for _ in prompts]
        settings = self._sampling_params(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        whole = [_token_prompt((*prompt.ids, *prompt.forced)) for _, prompt in some]
        for (index, prompt), answer in zip(some, self.llm.generate(whole, settings, use_tqdm=False), strict=True):
            values = answer.prompt_logprobs[len(prompt.ids) :]
            scores[index] = [value[token].logprob for value, token in zip(values, prompt.forced, strict=True)]
        return scores


def _token_prompt(ids: Sequence[int]) -> dict[str, list[int]]:
    """Wrap token ids as a prompt for vLLM."""
    return {"prompt_token_ids": list(ids)}
