"""Methods that stop early: not trainings of their own, but an earlier state of one that is made anyway."""

from typing import Annotated

from pydantic import Field

from knowshift.allowed_values import Method
from knowshift.configuration.section import Section

SMALLEST_STOP = 1e-6  # a smaller share of the steps of any training is its first step
StopAt = Annotated[float, Field(ge=SMALLEST_STOP, lt=1)]


class Stop(Section):
    """A training that is stopped early: the model after a share of the optimizer steps."""

    method: Method = Field(description="The training that is stopped: full or lora, as under finetuning.")
    stop_at: StopAt = Field(description="Share of its optimizer steps, above 0 and below 1; at least one is done.")
