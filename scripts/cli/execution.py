"""Arguments of scripts that change no result: how fast a job runs, and where."""

from typing import Annotated

from pydantic import AfterValidator, Field

from knowshift.configuration.section import Positive, Section, all_distinct
from knowshift.configuration.stopping import StopAt

MOST_THREADS = 4096
Threads = Annotated[int, Field(gt=0, le=MOST_THREADS)]
Switch = Annotated[int, Field(ge=0, le=1)]


class Cores(Section):
    """The CPU threads of a job that compares weights."""

    threads: Threads = Field(default=1, description="Number of CPU threads.")


class Stopped(Section):
    """Which of the models in a checkpoint is compared."""

    stop: StopAt | None = Field(
        default=None,
        description="Share of the optimizer steps after which the model was kept, by --stops of finetune.py; null "
        "takes the model after all of them.",
    )


class Placement(Section):
    """Where a model is run."""

    threads: Threads | None = Field(default=None, description="Number of CPU threads; null leaves it to torch.")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda|cuda:[0-9]{1,3})$",
        description="Where it computes: auto, cpu or cuda:N; auto leases a free GPU if there is one.",
    )


class Execution(Placement):
    """How a model is run by a script that saves its work."""

    code: str = Field(default="", description="Version of the code; work that another version saved is not continued.")


class Saving(Execution):
    """How a model is run by a script that saves its work in chunks."""

    chunk: Positive = Field(
        description="Number of questions or completions between two saves; bounds memory, and what an interruption "
        "loses."
    )
    gpus: Annotated[int, Field(ge=0, le=MOST_THREADS)] = Field(
        default=1, description="Number of GPUs that the engine vllm shares the model out over."
    )


class TrainingExecution(Execution):
    """How a model is trained."""

    save_every: float = Field(ge=0, description="Time between two saves, in seconds; SIGKILL loses no more.")
    gradient_checkpointing: Switch = Field(
        default=0,
        description="1 computes activations again in the backward pass: less memory, more time, the same result.",
    )
    stops: Annotated[list[StopAt], AfterValidator(all_distinct)] = Field(
        default=[],
        description="Shares of the optimizer steps, above 0 and below 1, after which the model is kept as well, in "
        "stops/ of the checkpoint.",
    )
    tensorboard: Switch = Field(
        default=0, description="1 writes events to tensorboard/ beside --steps; needs the package tensorboard."
    )
