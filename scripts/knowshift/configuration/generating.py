"""Settings of everything that generates text: the engine, its number format and the size of its forward passes."""

from typing import Annotated

from pydantic import Field

from knowshift.allowed_values import Dtype, EngineName
from knowshift.configuration.section import Section

TokenLimit = Annotated[int, Field(gt=0, le=100_000)]  # of one completion or answer


class Generating(Section):
    """How a model computes when it generates."""

    engine: EngineName = Field(
        default="torch",
        description="Engine that generates: torch is the project's own, for CPUs and single GPUs; generate is that of "
        "transformers, slower, for models that torch cannot run; vllm is for GPUs, one or several, and draws and "
        "rounds its own way.",
    )
    dtype: Dtype = Field(default="float32", description="Number format that the model computes in when it generates.")
    tokens_per_pass: Annotated[int, Field(gt=0, le=1_000_000)] = Field(
        default=64,
        description="Number of tokens that every forward pass reads; another number changes low bits of logits.",
    )
