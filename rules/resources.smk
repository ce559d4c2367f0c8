# GPUs, nodes and memory of a job follow from the size of its model (scripts/knowshift/planning/sizing.py) and from what
# the profile states about the machine. They change no result. A profile overrides them by rule (`set-resources`) and by
# model (`gpus_of`); every retry gets more memory.
import os
import shutil
import subprocess

from knowshift.planning import sizing
from knowshift.weights.parameter_counts import named_parameters, stored_parameters
from cluster.launching import launcher


def stated(name, otherwise=None):
    """Return what the profile states under `default-resources`; jobs on a cluster see it too."""
    resource = (workflow.resource_settings.default_resources or {}).get(name)
    value = getattr(resource, "raw", resource)
    return otherwise if value is None else value


def set_for(rule, name):
    """Return a number that the profile sets for a rule under `set-resources`; other resources follow from it."""
    resource = workflow.resource_settings.overwrite_resources.get(rule, {}).get(name)
    value = getattr(resource, "raw", resource)
    if value is not None and not str(value).isdecimal():
        raise WorkflowError(f"profile: {rule}: {name} under set-resources must be a number, not {value}")
    return None if value is None else int(value)


@cache
def machine():
    """Return the GPUs that jobs can get: those that the profile states, otherwise those of this machine."""
    if stated("gpu_gb") is not None:
        return sizing.Machine(float(stated("gpu_gb")), int(stated("gpus_per_node", 1)))
    if not shutil.which("nvidia-smi"):
        return sizing.Machine()
    ask = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    sizes = [int(word) for word in done.stdout.split() if word.isdecimal()] if done.returncode == 0 else []
    return sizing.Machine(min(sizes) * 1.048576e-3, len(sizes)) if sizes else sizing.Machine()


def read_gpus_of(text):
    """Parse the numbers of GPUs that a profile sets by hand, by RULE or MODEL.RULE."""
    rules = ["probe_mastery", "evaluate_base", "evaluate", "evaluate_instruct", "evaluate_restored", "finetune"]
    rules += ["evaluate_tasks", "evaluate_base_tasks"]
    known = {*rules, *(f"{model}.{rule}" for model in SETTINGS.models for rule in rules)}
    entries = [entry.partition("=") for entry in text.split()]
    for key, _, number in entries:
        if key not in known or not number.isdecimal():
            raise WorkflowError(
                f"profile: gpus_of: {key}={number} is not RULE=NUMBER or MODEL.RULE=NUMBER, with a rule among"
                f" {', '.join(rules)} and a model among {', '.join(SETTINGS.models)}"
            )
    return {key: int(number) for key, _, number in entries}


GPUS_OF = read_gpus_of(str(stated("gpus_of", "")))


def gpus_set(rule, model):
    """Return the number of GPUs that the profile gives a rule, for one model or all; None if the size decides."""
    for key in (f"{model}.{rule}", rule):
        if key in GPUS_OF:
            return GPUS_OF[key]
    return set_for(rule, "gpu")


@cache
def counted(folder):
    """Count the parameters of a model on disk. None if a file is damaged: the jobs that read it will say so."""
    try:
        return stored_parameters(Path(folder))
    except KnowshiftError:
        return None


@cache
def foreseen(model, part):
    """Estimate the parameters of a model that is not there yet, by its local folder or else by its name."""
    entry = SETTINGS.models[model] if part == "base" else SETTINGS.models[model].instruct
    if isinstance(entry.source, sections.DirectorySource) and (stored := counted(entry.source.directory)):
        return stored
    name = getattr(entry.source, "hub", None) or getattr(entry.source, "gguf", None) or model
    return named_parameters(Path(name).name) or sizing.ASSUMED_PARAMETERS


def parameters_of(model, part="base"):
    """Return the number of parameters of a model, or of the chat model beside it: counted once the model is there."""
    folder = f"{RESULTS}/{model}/{'base' if part == 'base' else 'instruct/model'}"
    there = os.path.exists(f"{folder}/manifest.json")
    return (there and counted(folder)) or foreseen(model, part)


def dtype_of(model, section):
    """Return the dtype that a model computes in when it is asked."""
    return SETTINGS.models[model].dtype or section.dtype


def asking_gpus(rule, model, section, part="base"):
    """Return the number of GPUs of a job that asks a model questions.

    Raises:
        WorkflowError: one GPU cannot hold the model, and the engine takes no more.
    """
    if not machine().gpu_gb:
        return 0
    dtype, given = dtype_of(model, section), gpus_set(rule, model)
    needed = sizing.inference_gpus(parameters_of(model, part), dtype, section.engine, machine())
    if section.engine == "vllm":
        return needed if given is None else given
    if needed > 1 and given is None:
        raise WorkflowError(
            f"{rule}: {model} has {parameters_of(model, part) / 1e9:.3g} billion parameters, which need {needed} GPUs"
            f" of {machine().gpu_gb:.0f} GB in {dtype}, and the engine {section.engine} works on one; choose"
            " engine: vllm, or a narrower dtype"
            f" (or state gpus_of: {model}.{rule}=1 in the profile, to try all the same)"
        )
    return 1 if given is None else min(given, 1)


def gpus_to_ask(rule, section, part="base"):
    """Make the resource function of `asking_gpus`."""
    return lambda wildcards: asking_gpus(rule, wildcards.model, section, part)


def memory_to_ask(copies, section, part="base", as_trained=False):
    """Make a resource function: the MB that some copies of a model's weights take, and the rest of the job.

    Args:
        copies: how many are in main memory at once.
        section: `mastery` or `evaluation`, whose number format copies have on their way to a GPU.
        part: base, or instruct for the chat model beside it.
        as_trained: whether they are in the format of training instead, float32.
    """

    def amount(wildcards, attempt):
        narrow = machine().gpu_gb and not as_trained
        width = sizing.DTYPE_BYTES[dtype_of(wildcards.model, section) if narrow else "float32"]
        return attempt * sizing.megabytes(parameters_of(wildcards.model, part), copies * width)

    return amount


def memory_to_try(part="base"):
    """Make a resource function: the MB that a model takes where it is tried, in float32 and laid out for an engine."""
    return lambda wildcards, attempt: attempt * max(4000, sizing.megabytes(parameters_of(wildcards.model, part), 9))


def memory(megabytes):
    """Make a resource function: a number of MB, and as many again with every retry."""
    return lambda wildcards, attempt: attempt * megabytes


@cache
def training_size(model, method, parameters):
    """Return bytes per parameter, GPUs and nodes of a fine-tuning. One that needs several nodes takes whole nodes.

    Raises:
        WorkflowError: it needs more than its optimizer or this machine can give, or the profile's numbers do not fit.
    """
    kind, training = training_of(method)
    held = sizing.training_bytes(parameters, kind, training)
    given, needed = gpus_set("finetune", model), sizing.gpus_for(parameters, held, machine())
    if needed > 1 and given is None and training["optimizer"] == "adamw_8bit":
        raise WorkflowError(
            f"finetune: {method} of {model} needs {needed} GPUs, and optimizer adamw_8bit trains in one process; choose"
            " optimizer: adamw, lora, or dtype: bfloat16"
        )
    gpus, nodes = sizing.training_gpus(needed, machine(), given, set_for("finetune", "nodes"))
    if nodes > 1 and stated("gpu_gb") is None and machine().gpu_gb:
        raise WorkflowError(
            f"finetune: {method} of {model} needs {needed} GPUs of {machine().gpu_gb:.0f} GB, and this machine has"
            f" {machine().gpus_per_node}; use lora, a variant with dtype: bfloat16, or a cluster (or set gpu for"
            " finetune under set-resources in the profile, to try all the same)"
        )
    if gpus % nodes:
        raise WorkflowError(f"finetune: {gpus} GPUs cannot be shared out evenly over {nodes} nodes")
    return held, gpus, nodes


def size_of_training(wildcards):
    """Return `training_size` of a job."""
    return training_size(wildcards.model, cell_of(wildcards.run).method, parameters_of(wildcards.model))


def training_gpus(wildcards):
    """Return the number of GPUs of a run's fine-tuning."""
    _, gpus, _ = size_of_training(wildcards)
    return gpus


def training_nodes(wildcards):
    """Return the number of nodes of a run's fine-tuning."""
    _, _, nodes = size_of_training(wildcards)
    return nodes


def training_memory(wildcards, attempt):
    """Return the MB per node of a run's fine-tuning: trained parameters pass through memory when they are saved."""
    held, _, nodes = size_of_training(wildcards)
    return attempt * sizing.megabytes(parameters_of(wildcards.model), 1.25 * held, nodes)


def on_several_nodes(value):
    """Make a resource function for what SLURM is told only about a fine-tuning that takes several nodes.

    With `mpi` set, the executor leaves it to the rule to start its `tasks` with srun, one on each node.

    Args:
        value: a number or text, or a function of the number of nodes.
    """

    def amount(wildcards):
        nodes = training_nodes(wildcards)
        if nodes == 1:
            return None
        return value(nodes) if callable(value) else value

    return amount


def training_launcher(wildcards, resources, threads):
    """Return the command that starts a fine-tuning. Because it takes `resources`, Snakemake does not compare it."""
    gpus = resources.gpu // resources.nodes
    return launcher(gpus or resources.workers, resources.nodes, threads, gpus)


# If the profile states the GPUs, say now what no job could do later.
if stated("gpu_gb") is not None:
    for name, entry in SETTINGS.models.items():
        asking_gpus("probe_mastery", name, SETTINGS.mastery)
        asking_gpus("evaluate", name, SETTINGS.evaluation)
        if entry.instruct:
            asking_gpus("evaluate_instruct", name, SETTINGS.evaluation, "instruct")


def warn_of_emulation():
    """Warn if this machine, without GPUs, computes in a 16-bit format that the configuration asks for slowly.

    Where jobs run in conda environments, the Python that runs Snakemake may have no torch to measure with.
    """
    narrow = {key: dtype for key, dtype in SETTINGS.computing_dtypes().items() if dtype != "float32"}
    if not narrow or machine().gpu_gb or IN_CONDA or not workflow.is_main_process:
        return
    from knowshift.planning.machine_speed import machine_speed, stored_speed

    speed = stored_speed()
    if not speed.measured:
        speed = machine_speed(1)  # measured once, in some seconds, and kept
    for dtype in sorted(set(narrow.values())):
        slower = speed.products["float32"] / speed.products[dtype]
        if slower > SLOW:
            keys = ", ".join(key for key, value in narrow.items() if value == dtype)
            logger.warning(
                f"This processor only emulates {dtype}, which takes about {slower:.1f} times as long here as float32"
                f" (set by {keys})."
            )


SLOW = 1.2  # times as long as in float32, from which on it is worth a warning
warn_of_emulation()
