"""Values that keys of the configuration and options of scripts may have."""

from typing import Literal

Dtype = Literal["float32", "bfloat16", "float16"]
EngineName = Literal["torch", "vllm"]
Matching = Literal["whole_words", "substring"]
Strategy = Literal["top", "bottom", "random", "absolute"]
