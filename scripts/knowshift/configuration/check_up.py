"""Settings of the check-up of one fine-tuned model beside its base, without an experiment around them."""

from pydantic import Field

from knowshift.configuration.evaluation import FewShot
from knowshift.configuration.facts import MatchingRule
from knowshift.configuration.generating import Generating
from knowshift.configuration.models import Chat, Loading
from knowshift.configuration.section import NotNegative, PathText, Positive, Seeded


class CheckUp(Generating, Loading, MatchingRule, FewShot, Seeded):
    """How two models are asked the same questions, each in its own form."""

    few_shot: NotNegative = Field(
        default=4,
        description="Number of questions, drawn from the file and asked of neither model, that stand with their "
        "answers before each question to the base, so that it knows the form of an answer; none stand in a chat.",
    )
    base_prompt: PathText = Field(
        default="study",
        description="How the base is asked: study (this project's prompt), chat (its chat template), or a file with "
        "the keys prompt and answer, as resources/prompt.yaml.",
    )
    tuned_prompt: PathText | None = Field(
        default=None,
        description="How the fine-tuned model is asked, likewise; null takes chat where its tokenizer has a chat "
        "template, else study.",
    )
    system: str = Field(
        default="", description="System message before the question in a chat; an empty text sends none."
    )
    request: str = Field(
        default=Chat().request,
        description="Request for a short answer that follows the question in a chat, after a space; an empty text asks "
        "for none.",
    )
    max_new_tokens: Positive = Field(default=32, description="Largest number of tokens of an answer.")
