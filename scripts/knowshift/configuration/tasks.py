"""The section `tasks`: what models have to go on doing, whatever is restored of them."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from knowshift.configuration.generating import TokenLimit
from knowshift.configuration.models import MODEL_NAME, Chat, Loading
from knowshift.configuration.section import PathText, Section

Metric = Literal["contains", "exact", "loglikelihood"]


class Tolerance(Section):
    """How much of a task may be given up for knowledge."""

    tolerance: Annotated[float, Field(ge=0, le=100)] = Field(
        default=0.02,
        description="How much lower than with nothing restored the score of a recommended model may be on the task's "
        "dev half, in units of the score: a share of examples (0.02 is two points), or nats with loglikelihood.",
    )


class Scored(Section):
    """How an answer to an example of a task is scored."""

    metric: Metric = Field(
        default="contains",
        description="Score of an example: contains (1 if the answer holds an expected one as whole words), exact (1 if "
        "the answer is an expected one and nothing else), or loglikelihood (mean log-probability in nats of the tokens "
        "of the first expected answer; nothing is generated).",
    )


class Judged(Scored, Tolerance):
    """What the analysis has to know of a task."""


class Answered(Scored):
    """How a model answers the examples of a task."""

    max_new_tokens: TokenLimit = Field(default=64, description="Largest number of tokens of an answer.")

    @property
    def tokens(self) -> int:
        """The largest number of tokens that are generated."""
        return 1 if self.metric == "loglikelihood" else self.max_new_tokens


class Task(Tolerance):
    """What every kind of task has."""

    name: Annotated[str, Field(pattern=f"^{MODEL_NAME}$")] = Field(
        default="", description="Name of the task in tables and paths; without one, that of its file without ending."
    )


class QuestionTask(Answered, Task):
    """A task whose held-out examples a file holds; every model is asked them by the experiment's own engine."""

    questions: PathText = Field(
        description="Held-out examples, a JSON object per line: prompt (a text that the model goes on with, as it is) "
        "or messages (a conversation, put into the model's chat template), and expected (an answer, or a list of "
        "answers that all count)."
    )

    @model_validator(mode="before")
    @classmethod
    def _is_named(cls, value: Any) -> Any:
        """Name a task after its file where it has no name."""
        if isinstance(value, dict) and "name" not in value and isinstance(value.get("questions"), str):
            return {**value, "name": Path(value["questions"]).stem}
        return value


class AskedTask(Answered, Loading):
    """A task as one model is asked it. The BOS token counts for prompts alone: a chat template decides for itself."""

    name: str = Field(default="task", description="Name of the task.")
    chat: Chat = Field(
        default=Chat(),
        description="How conversations are put into the chat template (system, thinking, date, template_args).",
    )


class AskedTasks(Section):
    """The tasks that one model is asked."""

    tasks: list[AskedTask] = Field(
        default=[], description="Tasks that a model is asked beside its questions, each an object."
    )
