"""Values that settings may take where several stages share them; each setting's own stand in `configuration`."""

from typing import Literal, NamedTuple

Attention = Literal["auto", "sdpa", "eager"]  # which attention of transformers a model is loaded with
Bos = Literal["as_tokenizer", "always", "never"]  # whether BOS stands before a text, see configuration/models.py
Dtype = Literal["float32", "bfloat16", "float16"]
EngineName = Literal["torch", "generate", "vllm"]
LevelsFrom = Literal["all", "first_half"]  # the completions that mastery levels are counted from
Matching = Literal["whole_words", "substring"]
Writing = Literal["accents", "abbreviations", "thousands", "korean_particles"]  # that count as one
Method = Literal["full", "lora"]  # of fine-tuning, apart from variants
Strategy = Literal[
    "top",
    "bottom",
    "absolute",
    "smallest",
    "random",
    "sign_agreeing",
    "last_layers",
    "first_layers",
    "interpolate",
    "drop_rescale",
    "low_rank",
]


class StrategyTraits(NamedTuple):
    """What other rooms know of a restoration strategy, which is carried out in the room `restoration`.

    Attributes:
        undoes: what is set back, as the end of a sentence about parameters; where none is selected, what is done.
        selects: whether it sets selected parameters back, and leaves all others as they are.
        from_histogram: whether it starts from the stored histogram of relative changes.
        control: whether it is run to be compared with, and never recommended.
        other_seeds: whether it compares with the fine-tuned models of the cell's other seeds.
        proportional: whether it undoes the same share of every change.
    """

    undoes: str
    selects: bool = True
    from_histogram: bool = False
    control: bool = False
    other_seeds: bool = False
    proportional: bool = False


STRATEGY_TRAITS: dict[str, StrategyTraits] = {
    "top": StrategyTraits("those that fine-tuning changed most, relative to their value", from_histogram=True),
    "bottom": StrategyTraits(
        "those that fine-tuning changed least, relative to their value", from_histogram=True, control=True
    ),
    "absolute": StrategyTraits("those that fine-tuning changed most, in absolute terms"),
    "smallest": StrategyTraits("those that fine-tuning changed least, in absolute terms"),
    "random": StrategyTraits("at random, by the seed", control=True),
    "sign_agreeing": StrategyTraits(
        "first those whose change has another sign in models of other seeds, and of equals the smallest changes",
        other_seeds=True,
    ),
    "last_layers": StrategyTraits("whole layers, from the last one backwards"),
    "first_layers": StrategyTraits("whole layers, from the first one onwards"),
    "interpolate": StrategyTraits("every parameter goes this share of the way back", selects=False, proportional=True),
    "drop_rescale": StrategyTraits(
        "a random share of the changes, by the seed, is dropped, and all others are divided by the share that stays",
        selects=False,
    ),
    "low_rank": StrategyTraits(
        "of every matrix's change, the smallest singular directions that hold this share of its squared norm are left"
        " out",
        selects=False,
    ),
}
