"""Options of a fine-tuning job: settings of the configuration, and what differs from run to run."""

from pydantic import Field, model_validator

from knowshift.allowed_values import Method
from knowshift.configuration.finetuning import Recipe, check_pull
from knowshift.configuration.models import Loading
from knowshift.configuration.section import Seeded, TrainingSetSize

SECONDS_BETWEEN_SAVES = 600  # unless the command line says otherwise


class TrainingOptions(Recipe, Loading, TrainingSetSize, Seeded):
    """Everything that changes the result of one fine-tuning, apart from the files that it reads."""

    name: str = Field(
        default="s1", description="Name of the training set; the order of its examples is derived from it."
    )
    method: Method = Field(
        default="full",
        description="What is trained: all parameters (full), or adapters that are merged afterwards (lora).",
    )

    @model_validator(mode="after")
    def _check_pull(self) -> "TrainingOptions":
        check_pull(self.method, self)
        return self

    def recipe(self) -> Recipe:
        """Return the recipe that is followed: adapters are trained at a learning rate of their own."""
        return self.model_copy(update={"learning_rate": self.lora.learning_rate}) if self.method == "lora" else self
