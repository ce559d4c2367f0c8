"""What an experiment will ask of a model, as arguments of the script that takes it over."""

from pydantic import Field

from knowshift.allowed_values import Dtype, EngineName
from knowshift.configuration.finetuning import LoraSettings
from knowshift.configuration.models import Chat, Reading


class Expected(Reading):
    """What an experiment will ask of a model. It is tried when the model is taken over, and changes nothing of it."""

    regions: list[str] = Field(
        default=[], description="Regions that will be compared or restored; each must hold a tensor of the model."
    )
    adapters: list[LoraSettings] = Field(default=[], description="Adapters that will be trained (finetuning.lora).")
    engines: list[EngineName] = Field(default=[], description="Engines that will generate; each must run the model.")
    dtypes: list[Dtype] = Field(
        default=[], description="Number formats that the model will be asked in; none stands for that of its files."
    )
    chat: Chat | None = Field(
        default=None, description="How the model's own chat template will be used; null does not use it."
    )
