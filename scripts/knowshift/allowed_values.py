"""Values that settings may take where several stages share them; each setting's own stand in `configuration`."""

from typing import Literal

Attention = Literal["auto", "sdpa", "eager"]  # which attention of transformers a model is loaded with
Bos = Literal["as_tokenizer", "always", "never"]  # whether BOS stands before a text, see configuration/models.py
Dtype = Literal["float32", "bfloat16", "float16"]
EngineName = Literal["torch", "generate", "vllm"]
LevelsFrom = Literal["all", "first_half"]  # the completions that mastery levels are counted from
Matching = Literal["whole_words", "substring"]
Writing = Literal["accents", "abbreviations", "thousands", "korean_particles"]  # that count as one
Method = Literal["full", "lora"]  # of fine-tuning, apart from variants
Strategy = Literal["top", "bottom", "random", "absolute"]
HISTOGRAM_STRATEGIES = ("top", "bottom")  # strategies that start from the stored histogram of relative changes
