"""The training loss against transformers' own, for every architecture that can be made tiny."""

from pathlib import Path

import pytest
import torch
from architectures import MODEL_TYPES, VOCABULARY, make, make_with_pictures
from model_table import listed_types
from torch.nn.functional import cross_entropy

from knowshift.configuration.finetuning import Recipe
from knowshift.finetuning.loop import adamw, can_pack, target_losses, train
from knowshift.finetuning.saved_state import TrainingState
from knowshift.runtime.errors import KnowshiftError

# Take no position ids, do not heed them, or carry a state from one example to the next.
UNPACKED = {name for name, (_, examples) in listed_types().items() if examples == "padded"}
SCALED = ["cohere", "cohere2", "gemma2", "granite", "granitemoe"]  # change their logits after the output head


def examples(*sizes: int) -> list[tuple[list[int], int]]:
    draw = torch.Generator().manual_seed(0)
    tokens = [torch.randint(3, VOCABULARY, (size,), generator=draw).tolist() for size in sizes]
    return [([1, *ids, 2], size - 1) for ids, size in zip(tokens, sizes, strict=True)]


@pytest.mark.parametrize("loss_on", ["answer", "all"])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_loss_is_that_of_transformers(model_type: str, loss_on: str) -> None:
    model, batch, total, count = make(model_type), examples(9, 14, 6, 17), 0.0, 0
    for ids, prompt in batch:
        start = prompt if loss_on == "answer" else 1
        labels = torch.tensor([[-100] * start + ids[start:]])
        with torch.no_grad():
            total += float(model(torch.tensor([ids]), labels=labels).loss) * (len(ids) - start)
        count += len(ids) - start
    packs = can_pack(model, batch, loss_on)
    assert packs == (model_type not in UNPACKED)
    for packed in [False, True][: 1 + packs]:
        ours = target_losses(model, batch, loss_on, packed)
        assert len(ours) == count and float(ours.detach().sum()) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("model_type", SCALED)
def test_what_an_architecture_does_to_its_logits_counts(model_type: str) -> None:
    """The output head alone, as training once called it, gives another loss."""
    model, batch = make(model_type), examples(9, 14)
    with torch.no_grad():
        ours = target_losses(model, batch, "answer").mean()
        plain = []
        for ids, prompt in batch:
            hidden = model.get_decoder()(torch.tensor([ids])).last_hidden_state[0, prompt - 1 : -1]
            plain.append(cross_entropy(model.get_output_embeddings()(hidden), torch.tensor(ids[prompt:])))
    assert abs(float(ours) - float(sum(plain)) / 2) > 0.01 * float(ours)


@pytest.mark.parametrize(
    ("model_type", "packed"), [("llama", True), ("gemma2", True), ("llama", False), ("bloom", False)]
)
def test_logits_are_computed_where_they_are_needed(model_type: str, packed: bool) -> None:
    model, batch, seen = make(model_type), examples(9, 14, 6), []
    model.get_output_embeddings().register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    target_losses(model, batch, "answer", packed)
    # Each example has three targets. In a padded batch a position is needed where any row needs it; none is shared.
    assert [tuple(shape) for shape in seen] == [(1, 9, VOCABULARY) if packed else (3, 9, VOCABULARY)]


@pytest.mark.parametrize("packed", [True, False])
def test_a_process_without_examples_takes_part(packed: bool) -> None:
    model = make("llama")
    loss = target_losses(model, [], "answer", packed).sum()
    loss.backward()
    assert float(loss.detach()) == 0
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_the_encoder_of_pictures_stays_as_it_is_and_training_goes_on_from_a_save(tmp_path: Path) -> None:
    """Its parameters get no gradient, so the optimizer holds nothing of them."""
    recipe = Recipe(epochs=2, batch_size=2, learning_rate=1e-2, loss_on="answer")
    whole, begun, resumed = make_with_pictures(), make_with_pictures(), make_with_pictures()
    batch, state = examples(9, 14, 6, 17), TrainingState(tmp_path)
    rows = list(train(whole, adamw(whole, recipe), batch, recipe, 1))
    optimizer = adamw(begun, recipe)
    training = train(begun, optimizer, batch, recipe, 1)
    state.save(begun, optimizer, [next(training) for _ in range(2)])
    again = adamw(resumed, recipe)
    done = state.load(resumed, again)
    assert done + list(train(resumed, again, batch, recipe, 1, first=len(done))) == rows
    before = make_with_pictures()
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name))
        of_text = "vision" not in name and "projector" not in name
        assert torch.equal(parameter, before.get_parameter(name)) != of_text, name


@pytest.mark.parametrize(
    ("dtype", "compute", "said"),
    [
        (torch.float16, None, r"set finetuning\.dtype to float32 or bfloat16"),
        (torch.float32, torch.bfloat16, r"set finetuning\.compute to null"),
        (torch.float32, None, "weights are damaged"),
    ],
)
def test_a_loss_that_is_no_number_before_the_first_update_is_not_blamed_on_the_learning_rate(
    dtype: torch.dtype, compute: torch.dtype | None, said: str
) -> None:
    model, recipe = make("llama").to(dtype), Recipe(epochs=1, batch_size=2)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.up_proj.weight")[0, 0] = float("nan")
    with pytest.raises(KnowshiftError, match=f"the loss of step 1 is nan; .*{said}"):
        next(train(model, adamw(model, recipe), examples(9, 14), recipe, 1, compute))
