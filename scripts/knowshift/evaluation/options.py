"""Options of the jobs that ask a model questions: settings of the configuration, and what differs from job to job."""

from pydantic import Field

from knowshift.configuration.evaluation import Answering, FewShot, TrainingQuestions
from knowshift.configuration.models import Chat, Loading
from knowshift.configuration.section import Seeded, TrainingSetSize

QUESTIONS_PER_CHUNK = 2048  # questions between two saves, unless the command line says otherwise


class AskingOptions(Answering, Loading, Seeded):
    """Options of every job that asks questions."""

    chat: Chat | None = Field(
        default=None,
        description="How to ask with the model's own chat template (request, thinking, date, max_new_tokens); null "
        "asks with the prompt.",
    )


class BaseOptions(AskingOptions, FewShot):
    """Options of the job that asks the pre-trained model, with examples before the question too."""


class RunOptions(AskingOptions, TrainingQuestions, TrainingSetSize):
    """Options of jobs that ask a fine-tuned model, which is also asked some questions of its own training set."""
