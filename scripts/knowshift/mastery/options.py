"""Options of a probing job: settings of the configuration, and what differs from job to job."""

from typing import Literal

from pydantic import Field

from knowshift.configuration.mastery import Probing
from knowshift.configuration.models import Loading
from knowshift.configuration.section import Positive, Seeded

COMPLETIONS_PER_CHUNK = 16384  # completions between two saves, unless the command line says otherwise


class ProbingOptions(Probing, Loading, Seeded):
    """Which facts are probed, and how."""

    split: Literal["train", "dev", "test"] | None = Field(
        default=None, description="Split that the facts are taken from; null takes all facts."
    )
    facts_limit: Positive | None = Field(
        default=None, description="Largest number of facts that are probed, chosen by hash; null probes all."
    )
