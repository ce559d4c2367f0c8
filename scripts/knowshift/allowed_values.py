"""Values that settings may take where several stages share them; each setting's own stand in `configuration`."""

from typing import Literal, NamedTuple

Bos = Literal["as_tokenizer", "always", "never"]  # whether BOS stands before a text, see configuration/models.py
Dtype = Literal["float32", "bfloat16", "float16"]
EngineName = Literal["torch", "generate", "vllm"]
LevelsFrom = Literal["all", "first_half"]  # the completions that mastery levels are counted from
Matching = Literal["whole_words", "substring"]
Method = Literal["full", "lora"]  # of fine-tuning, apart from variants
Strategy = Literal["top", "bottom", "absolute", "random"]


class StrategyTraits(NamedTuple):
    """What other rooms know of a restoration strategy, which is carried out in the room `restoration`.

    Attributes:
        undoes: what is set back, as the end of a sentence about parameters.
        from_histogram: whether it starts from the stored histogram of relative changes.
        control: whether it is run to be compared with, and never recommended.
    """

    undoes: str
    from_histogram: bool = False
    control: bool = False


STRATEGY_TRAITS: dict[str, StrategyTraits] = {
    "top": StrategyTraits("those that fine-tuning changed most, relative to their value", from_histogram=True),
    "bottom": StrategyTraits(
        "those that fine-tuning changed least, relative to their value", from_histogram=True, control=True
    ),
    "absolute": StrategyTraits("those that fine-tuning changed most, in absolute terms"),
    "random": StrategyTraits("at random, by the seed", control=True),
}
