"""Ways to undo that compute new values between those before and after training: `interpolate` and `drop_rescale`.

Arithmetic is float32. A result is rounded to the type after training once.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from knowshift.restoration.schemas import SELECTION
from knowshift.restoration.selection import Selection
from knowshift.restoration.undoing import (
    Pieces,
    Tabulated,
    sum_changes,
    tensor_row,
    whole_pieces,
    whole_row,
    whole_side,
)
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.bit_patterns import all_finite, as_float32, from_float32
from knowshift.weights.versions import Versions


def stored_bits(values: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """Round values of a restored tensor to the type that it is stored in.

    Args:
        values: float32 of shape (n,).
        dtype: the type.
        name: the tensor, for the message.

    Raises:
        KnowshiftError: a value is too large for the type.
    """
    bits = from_float32(values, dtype)
    if not all_finite(bits, dtype):
        raise KnowshiftError(f"a restored value of tensor {name} is too large for {dtype}; undo a smaller share of it")
    return bits


@dataclass(frozen=True)
class Interpolation(Tabulated):
    """Every parameter on the line between its values before and after training (WiSE-FT; Wortsman et al. 2022)."""

    def restored_pieces(self, versions: Versions, name: str) -> Pieces:
        """Yield a tensor of the restored model in consecutive pieces, see `Undoing`."""
        if self.percent in (0, 100):
            yield from whole_pieces(versions, name, self.percent == 100)
            return
        back, kept = np.float32(self.percent / 100), np.float32(1 - self.percent / 100)
        for piece in versions.pieces(name, 0, versions.parameters(name)):
            before, after = (as_float32(side, piece.dtype) for side in (piece.base, piece.tuned))
            # As a fused multiply-add rounds, which mergekit's linear is on usual processors: the product of two float32
            # is exact in float64.
            fused = (back * before).astype(np.float64) + np.float64(kept) * after.astype(np.float64)
            # Weights that do not add up to 1 after rounding would shrink or stretch the model.
            yield piece.start, stored_bits(fused.astype(np.float32) / (back + kept), piece.dtype, name)


def interpolate(versions: Versions, percents: Sequence[float], threads: int = 1) -> list[Interpolation]:
    """Go a share of the way back to the values before training, for several shares.

    Args:
        versions: the parameters of the region before and after training.
        percents: the shares of the way.
        threads: how many threads work.

    Raises:
        KnowshiftError: a value is not finite.
    """
    sums = sum_changes(versions, threads)

    def row(name: str, percent: float) -> dict:
        if percent in (0, 100):
            return whole_row(name, sums[name], percent == 100)
        return tensor_row(name, sums[name], 0, 0, percent / 100 * sums[name].total)

    return [Interpolation(percent, tuple(row(name, percent) for name in sums)) for percent in percents]


@dataclass(frozen=True)
class Rescaled:
    """A selection whose parameters go back, while all other changes are divided by the share that stays.

    This is DARE (Yu et al. 2024) if the selection is random: the mean of the update stays as it is.

    Attributes:
        selection: what is dropped.
    """

    selection: Selection

    @property
    def percent(self) -> float:
        """How much is dropped, 0 to 100."""
        return self.selection.percent

    @property
    def parameters(self) -> int:
        """The number of parameters in the region."""
        return self.selection.parameters

    @property
    def selected(self) -> int:
        """How many of them are dropped."""
        return self.selection.selected

    @property
    def threshold(self) -> float | None:
        """The change at the cut of the selection."""
        return self.selection.threshold

    @property
    def names(self) -> Set[str]:
        """The tensors of the region."""
        return self.selection.names

    @property
    def tensors(self) -> pa.Table:
        """The table of the selection, less what the changes that stay have grown by."""
        percent, table = self.percent, self.selection.tensors
        if percent in (0, 100):
            return table
        undone, total = table["restored_sum"].to_numpy(), table["sum"].to_numpy()
        grown = undone - (total - undone) * percent / (100 - percent)
        place = SELECTION.get_field_index("restored_sum")
        return table.set_column(place, SELECTION.field("restored_sum"), pa.array(grown))

    def whole_side(self, _: str, /) -> bool | None:
        """Tell whether a tensor is known to be that of one side, see `Undoing`."""
        return whole_side(self.percent)

    def restored_pieces(self, versions: Versions, name: str) -> Pieces:
        """Yield a tensor of the restored model in consecutive pieces, see `Undoing`."""
        if self.percent in (0, 100):
            yield from whole_pieces(versions, name, self.percent == 100)
            return
        grown = np.float32(1 / (1 - self.percent / 100))
        for piece, mask in self.selection.masked_pieces(versions, name):
            before, after = (as_float32(side, piece.dtype) for side in (piece.base, piece.tuned))
            with np.errstate(over="ignore"):  # an overflow is an error, of `stored_bits`
                values = before + (after - before) * grown
            values[mask] = before[mask]
            bits = stored_bits(values, piece.dtype, name)
            # What did not change keeps its bits, such as those of -0.
            yield piece.start, np.where(mask | (piece.base == piece.tuned), piece.base, bits)
