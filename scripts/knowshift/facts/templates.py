"""Reads and checks the templates of questions, completions and prompts, which are data in `resources/`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from knowshift.facts.texts import problem_with_template, problem_with_text, tidy
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.yaml_files import read_yaml

SUBJECT = "[X]"  # placeholder


@dataclass(frozen=True)
class TopicTemplates:
    """The templates of one topic.

    Attributes:
        topic: the relation's id, such as "P36".
        name: a short label for people, such as "capital".
        question: the question, with `[X]` for the subject.
        completions: texts with one `[X]` each; the object follows immediately after their end.
    """

    topic: str
    name: str
    question: str
    completions: tuple[str, ...]

    def ask(self, subject: str) -> str:
        """Write the question about a subject."""
        return self.question.replace(SUBJECT, subject)

    def subject_of(self, question: str) -> str | None:
        """Find the subject of a question; None if the question does not fit the template."""
        before, after = self.question.split(SUBJECT)
        fits = question.startswith(before) and question.endswith(after) and len(question) > len(before) + len(after)
        return question[len(before) : len(question) - len(after)] if fits else None


def read_topic_templates(path: Path) -> TopicTemplates:
    """Read the templates of one topic from `TOPIC.yaml`.

    Raises:
        KnowshiftError: the file is missing or does not have the form that `TopicTemplates` describes.
    """
    raw = read_yaml(path, f": there are no templates for topic {path.stem}; write them there")
    if not isinstance(raw, dict) or set(raw) != {"topic", "name", "question", "completions"}:
        raise KnowshiftError(f"{path}: needs exactly the keys topic, name, question, completions")
    if isinstance(raw["topic"], bool) or raw["topic"] is None:  # as YAML reads yes, no, on, off, true, false and null
        raise KnowshiftError(f"{path}: YAML reads this topic as {raw['topic']}; put its name in quotes")
    if str(raw["topic"]) != path.stem:
        raise KnowshiftError(
            f"{path}: topic is {raw['topic']}, but the file is named after {path.stem}; one of them is wrong"
        )
    if problem := problem_with_text(raw["name"], "the name"):
        raise KnowshiftError(f"{path}: {problem}")
    completions = raw["completions"]
    if not isinstance(completions, list) or not completions:
        raise KnowshiftError(f"{path}: completions must be a list of at least one template")
    for template in [raw["question"], *completions]:
        if not isinstance(template, str) or template.count(SUBJECT) != 1:
            raise KnowshiftError(f"{path}: {template!r} must hold {SUBJECT} exactly once")
        if template.strip() == SUBJECT:
            raise KnowshiftError(f"{path}: {template!r} holds nothing but {SUBJECT}; write what is asked of it")
        if problem := problem_with_template(template):
            raise KnowshiftError(f"{path}: {problem}")
    for template in completions:
        if template != template.rstrip():
            raise KnowshiftError(f"{path}: {template!r} ends in white space; end it where the object follows")
    if len(set(completions)) != len(completions):
        raise KnowshiftError(f"{path}: two completion templates are the same")
    return TopicTemplates(str(raw["topic"]), str(raw["name"]), tidy(raw["question"]), tuple(completions))


@dataclass(frozen=True)
class PromptTemplate:
    """The form in which a model is asked a question, the same in training and evaluation.

    Attributes:
        prompt: the text before the answer, with the placeholder `{question}`.
        answer: the text of the answer, with the placeholder `{object}`.
        before: text before the prompt, such as examples; it has no placeholders.
    """

    prompt: str
    answer: str
    before: str = ""

    def ask(self, question: str) -> str:
        """Write the prompt that asks a question."""
        return self.before + self.prompt.replace("{question}", question)

    def reply(self, object_: str) -> str:
        """Write the answer that the model is trained to give."""
        return self.answer.replace("{object}", object_)

    def with_examples(self, examples: Sequence[tuple[str, str]]) -> "PromptTemplate":
        """Put answered questions before the prompt, each on a line of its own, in the form of this template.

        Args:
            examples: pairs of a question and its object.
        """
        bare = replace(self, before="")
        shown = "".join(f"{bare.ask(question)}{bare.reply(object_)}\n" for question, object_ in examples)
        return replace(self, before=shown)


def read_prompt_template(path: Path) -> PromptTemplate:
    """Read the prompt template from `prompt.yaml`.

    Raises:
        KnowshiftError: the file is missing or lacks a key or a placeholder.
    """
    raw = read_yaml(path, " does not exist; it holds the prompt and answer templates")
    if not isinstance(raw, dict) or set(raw) != {"prompt", "answer"}:
        raise KnowshiftError(f"{path}: needs exactly the keys prompt and answer")
    for key, placeholder in (("prompt", "{question}"), ("answer", "{object}")):
        if not isinstance(raw[key], str) or raw[key].count(placeholder) != 1:
            raise KnowshiftError(f"{path}: {key} must be a text that holds {placeholder} exactly once")
        if problem := problem_with_template(raw[key]):
            raise KnowshiftError(f"{path}: {problem}")
    return PromptTemplate(raw["prompt"], raw["answer"])
