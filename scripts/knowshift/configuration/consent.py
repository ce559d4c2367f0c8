"""Says what of an experiment is so large that it may be a slip of the pen, and is only run with the user's consent."""

from collections.abc import Iterator

from knowshift.configuration.checking import ConfigurationError
from knowshift.configuration.restoration import GRID_CHOICES
from knowshift.configuration.sections import Configuration

MOST_MODELS = 100_000  # fine-tuned and restored; the paper's grid has 1,635
MOST_SAMPLED = 1_000_000  # tokens per fact and model when mastery is measured; the paper has 6,720
MOST_ANSWERED = 10_000  # tokens of an answer; the paper has 16
MOST_TRAINED = 100_000_000  # examples of one fine-tuning, over all epochs; the paper has 1,920


def check_size(settings: Configuration, models_only: bool = False) -> None:
    """Check that an experiment is of a usual size, or that the user wants it as large as it is.

    Args:
        settings: the checked configuration.
        models_only: look at the number of models alone, which a plan has to list one by one.

    Raises:
        ConfigurationError: says what is large, how large it may be, and how to consent.
    """
    if settings.allow_large:
        return
    for what, number, most in _sizes(settings):
        if number > most:
            raise ConfigurationError(
                f"configuration: {what}: {number:,}, and more than {most:,} are made only with your consent: set"
                " allow_large: true (or --config allow_large=true) if that is meant"
            )
        if models_only:
            return


def count_models(settings: Configuration) -> int:
    """Count the models that are fine-tuned and restored if every level has enough facts.

    A restored model that several entries under `restoration` ask for is counted for each of them.
    """
    grid = settings.finetuning
    total = sum(_count_elsewhere(settings, name) for name in settings.models)
    if grid is None:
        return total
    for method in grid.methods:
        for data in grid.method_data.get(method, grid.data):
            for size in grid.data_sizes.get(data, grid.sizes):
                seeds = grid.seeds[:1] if size == "all" else grid.seeds
                total += len(settings.models) * len(seeds)
                for entry in settings.restoration:
                    cell = {"methods": method, "data": data, "sizes": size}
                    if entry.tuned and not any(getattr(entry, key) for key in GRID_CHOICES):
                        continue
                    listed = all(value in (getattr(entry, key) or [value]) for key, value in cell.items())
                    if listed and entry.takes_size(size):
                        restored = len(set(entry.seeds) & set(seeds)) if entry.seeds else len(seeds)
                        for model in entry.models or settings.models:
                            further = {*entry.more_dtypes} - {settings.answering_dtype(model)}
                            shares = len(entry.percents) + len(further) * len({0, *entry.percents})
                            total += restored * shares
        if total > MOST_MODELS:
            break  # of a grid without end not all has to be counted
    return total


def _count_elsewhere(settings: Configuration, name: str) -> int:
    """Count the models that were fine-tuned elsewhere from a model, and their restored models."""
    elsewhere, total = settings.models[name].tuned, 0
    for entry in settings.restoration:
        if entry.takes_elsewhere and name in (entry.models or [name]):
            every = [] if any(getattr(entry, key) for key in GRID_CHOICES) else elsewhere
            further = {*entry.more_dtypes} - {settings.answering_dtype(name)}
            shares = len(entry.percents) + len(further) * len({0, *entry.percents})
            total += len(set(entry.tuned or every) & set(elsewhere)) * shares
    return len(elsewhere) + total


def _sizes(settings: Configuration) -> Iterator[tuple[str, int, int]]:
    """Yield what may be large: its name, how large it is, and how large it may be without consent."""
    yield "fine-tuned and restored models", count_models(settings), MOST_MODELS
    mastery, grid = settings.mastery, settings.finetuning
    sampled = mastery.templates * mastery.samples * mastery.max_new_tokens
    yield "mastery, tokens sampled per fact (templates x samples x max_new_tokens)", sampled, MOST_SAMPLED
    yield "evaluation.max_new_tokens", settings.evaluation.max_new_tokens, MOST_ANSWERED
    for name, model in settings.models.items():
        chats = {"instruct": model.instruct} if model.instruct else {}
        for key, part in {**chats, **{f"tuned.{key}": one for key, one in model.tuned.items()}}.items():
            yield f"models.{name}.{key}.chat.max_new_tokens", part.chat.max_new_tokens, MOST_ANSWERED
    if grid is None:
        return
    largest = max((size for size in grid.sizes if isinstance(size, int)), default=0)
    for method in grid.methods:
        recipe = grid.training(method)[1]
        examples = round(largest * (1 + recipe.replay)) * recipe.epochs
        yield f"finetuning, examples of a training ({method}: largest size x epochs)", examples, MOST_TRAINED
