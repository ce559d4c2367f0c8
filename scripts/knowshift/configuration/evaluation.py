"""The sections `evaluation` and `divergence`: what models are asked, and how next-token distributions are compared."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from knowshift.configuration.generating import Generating, TokenLimit
from knowshift.configuration.section import NotNegative, Positive, Section

QuestionSet = Literal["dev", "test", "dev_ood", "test_ood"]


class Answering(Generating):
    """Which held-out questions a model is asked, and how it answers."""

    per_level: dict[QuestionSet, Positive | None] = Field(
        default={"test": None, "test_ood": None},
        description="Number of questions per mastery level of each question set; null takes all of them, and a set "
        "that is not named takes none.",
    )
    max_new_tokens: TokenLimit = Field(default=16, description="Largest number of tokens of an answer.")


class TrainingQuestions(Section):
    """Which questions of its own training set a fine-tuned model is asked."""

    training_set: NotNegative | None = Field(
        default=None,
        description="Number of facts of its own training set that a fine-tuned model is asked, from the first; null "
        "takes all.",
    )


class FewShot(Section):
    """With how many examples before the question the pre-trained model is asked too."""

    few_shot: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=4,
        description="Number of training facts that stand before each held-out question, as answered examples, when "
        "the pre-trained model is asked a second time; 0 leaves this out.",
    )


class Evaluation(Answering, TrainingQuestions, FewShot):
    """What a fine-tuned model is asked."""

    @model_validator(mode="after")
    def _asks_the_test_set(self) -> "Evaluation":
        if "test" not in self.per_level:
            raise ValueError("per_level must name the set test")
        return self


class Divergence(Section):
    """How next-token distributions before and after fine-tuning are compared (paper, section 3.4)."""

    top_tokens: Annotated[int, Field(gt=1, le=100)] = Field(
        default=10, description="Number of the fine-tuned model's highest logits that the KL divergence is taken over."
    )
