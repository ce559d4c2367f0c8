"""Ways to undo that set whole layers back: `last_layers` and `first_layers`."""

from collections.abc import Sequence
from dataclasses import dataclass

from knowshift.restoration.concentration import count_of
from knowshift.restoration.undoing import Pieces, Tabulated, sum_changes, whole_pieces, whole_row
from knowshift.weights.regions import layer_and_module
from knowshift.weights.versions import Versions


@dataclass(frozen=True)
class WholeLayers(Tabulated):
    """Some layers as they were before training, and all others as they are after it.

    Attributes:
        back: the tensors that are set back.
    """

    back: frozenset[str]

    def restored_pieces(self, versions: Versions, name: str) -> Pieces:
        """Yield a tensor of the restored model in consecutive pieces, see `Undoing`."""
        return whole_pieces(versions, name, name in self.back)

    def whole_side(self, name: str, /) -> bool:
        """Tell which side a tensor is of, see `Undoing`."""
        return name in self.back


def undo_layers(versions: Versions, percents: Sequence[float], from_last: bool, threads: int = 1) -> list[WholeLayers]:
    """Set back as many whole layers as hold a share of the region's parameters, but no more than that.

    Tensors of the region that lie outside the layers go back together, after all layers.

    Args:
        versions: the parameters of the region before and after training.
        percents: the shares of the region's parameters.
        from_last: whether the layer next to the output goes back first; otherwise the one next to the input does.
        threads: how many threads work.

    Raises:
        KnowshiftError: a value is not finite.
    """
    sums, layers = sum_changes(versions, threads), {}
    for name in sums:
        layers.setdefault(layer_and_module(name)[0], []).append(name)
    outside = layers.pop(None, [])
    groups = [layers[layer] for layer in sorted(layers, reverse=from_last)] + [outside]
    whole = sum(one.parameters for one in sums.values())
    found = []
    for percent in percents:
        left, back = count_of(whole, percent), set()
        for group in groups:
            left -= sum(sums[name].parameters for name in group)
            if left < 0:
                break
            back |= {*group}
        rows = tuple(whole_row(name, sums[name], name in back) for name in sums)
        found.append(WholeLayers(percent, rows, frozenset(back)))
    return found
