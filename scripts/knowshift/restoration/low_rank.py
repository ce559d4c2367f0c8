"""The way to undo `low_rank`: of every matrix's change, the leading singular directions stay.

So many stay as hold (100 - k) % of the squared norm of the change. A tensor of one dimension is a matrix of one row; of
more than two dimensions, each of the matrices in the last two stands for itself (as the experts of a mixture do).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from knowshift.randomness import derive_seed
from knowshift.restoration.blending import stored_bits
from knowshift.restoration.relative_changes import EPSILON
from knowshift.restoration.undoing import (
    ChangeSums,
    Pieces,
    Tabulated,
    sum_changes,
    tensor_row,
    whole_pieces,
    whole_row,
)
from knowshift.runtime.progress import progress
from knowshift.weights.bit_patterns import as_float32
from knowshift.weights.versions import PIECE, Versions

EXACT = 2048  # matrices with at most so many rows or columns are decomposed exactly; that takes seconds
FIRST_SKETCH = 256  # directions of a larger matrix that are looked for at first
POWER_ITERATIONS = 2  # of the randomised decomposition (Halko et al. 2011)
KEPT_BYTES = 1 << 28  # of directions that are left in memory from one share to the next


@dataclass(frozen=True)
class Directions:
    """The leading singular directions of a matrix with no more rows than columns.

    Attributes:
        vectors: the left ones, float32 of shape (rows, n), a column each, leading first.
        squares: the squares of their singular values, float64 of shape (n,).
        total: the squared norm of the matrix.
    """

    vectors: np.ndarray
    squares: np.ndarray
    total: float

    def needed(self, percent: float) -> int | None:
        """Count the leading directions that hold 100 less `percent` % of the squared norm; None if all hold less."""
        wanted = (1 - percent / 100) * self.total * (1 - 1e-12)  # sums are rounded
        count = int(np.searchsorted(np.cumsum(self.squares), wanted)) + 1
        return count if count <= len(self.squares) else None


def decompose(matrix: np.ndarray, count: int | None, seed: int) -> Directions:
    """Find the leading singular directions of a matrix.

    Args:
        matrix: float32 of shape (rows, columns), with no more rows than columns.
        count: how many are looked for by randomised decomposition; None finds all of them exactly, as the eigenvectors
            of the product of the matrix with its transpose.
        seed: the seed of the randomised decomposition.
    """
    total = float(np.square(matrix, dtype=np.float64).sum())
    if count is not None:
        import torch  # only here: loading it takes longer than comparing two small models

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            left, values, _ = torch.svd_lowrank(torch.from_numpy(matrix), count, POWER_ITERATIONS)
        return Directions(left.numpy(), np.square(values.double().numpy()), total)
    wide = matrix.astype(np.float64)
    squares, vectors = np.linalg.eigh(wide @ wide.T)
    return Directions(np.ascontiguousarray(vectors[:, ::-1], np.float32), np.maximum(squares[::-1], 0), total)


def matrices_of(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """View the values of a tensor as matrices with no more rows than columns, shape (matrices, rows, columns)."""
    rows, columns = (1, 1, *shape)[-2:]
    stack = values.reshape(-1, rows, columns)
    return stack if rows <= columns else stack.transpose(0, 2, 1)


@dataclass
class Decomposer:
    """Decomposes the changes of tensors, and keeps the directions of some for the next share.

    Attributes:
        seed: the seed of randomised decompositions.
    """

    seed: int
    _kept: dict[tuple, Directions] = field(default_factory=dict)
    _bytes: int = 0

    def cut(self, matrix: np.ndarray, percent: float, *name: str | int) -> bool:
        """Leave of a matrix, in its own memory, the leading directions that hold 100 less `percent` % of its norm.

        A matrix of at most `EXACT` rows is decomposed exactly. Of a larger one some directions are looked for by
        randomised decomposition, twice as many if they hold too little, and all if a quarter of them does. So it takes
        at most about twice the time of an exact decomposition. What is found for a share depends on no other share.

        Args:
            matrix: float32 of shape (rows, columns), with no more rows than columns.
            percent: the share of the squared norm that is undone, more than 0 and less than 100.
            name: what the matrix is, for the seed.

        Returns:
            Whether something was left out.
        """
        rows, count = len(matrix), FIRST_SKETCH
        while rows > EXACT and count <= rows // 4:
            found = self._directions(matrix, count, *name)
            if (rank := found.needed(percent)) is not None:
                break
            count *= 2
        else:
            found = self._directions(matrix, None, *name)
            rank = found.needed(percent) or rows
        if not found.total or rank == rows:
            return False
        vectors = found.vectors[:, :rank]
        matrix[:] = vectors @ (vectors.T @ matrix)
        return True

    def _directions(self, matrix: np.ndarray, count: int | None, *name: str | int) -> Directions:
        if (kept := self._kept.get((count, *name))) is not None:
            return kept
        found = decompose(np.ascontiguousarray(matrix), count, derive_seed(self.seed, "low rank", *name))
        if self._bytes + found.vectors.nbytes <= KEPT_BYTES:
            self._bytes += found.vectors.nbytes
            self._kept[count, *name] = found
        return found

    def truncate(self, versions: Versions, name: str, percent: float) -> tuple[np.ndarray, np.ndarray, bool]:
        """Compute a tensor whose change has its leading directions only.

        Args:
            versions: the model before and after training.
            name: the tensor.
            percent: the share of the squared norm that is undone, more than 0 and less than 100.

        Returns:
            The values before training and the restored values, float32 of shape (n,), and whether anything was undone.
        """
        before, change = (np.empty(versions.parameters(name), np.float32) for _ in range(2))
        for piece in versions.pieces(name, 0, versions.parameters(name)):
            here = slice(piece.start, piece.start + piece.base.size)
            before[here] = as_float32(piece.base, piece.dtype)
            change[here] = as_float32(piece.tuned, piece.dtype) - before[here]
        matrices = matrices_of(change, versions.shapes[name])  # in the memory of `change`
        cut = [self.cut(matrix, percent, name, number) for number, matrix in enumerate(matrices)]
        return before, before + change, any(cut)


@dataclass(frozen=True)
class LowRank(Tabulated):
    """A model whose changes are cut down to their leading singular directions.

    Attributes:
        decomposer: finds the directions.
    """

    decomposer: Decomposer

    def restored_pieces(self, versions: Versions, name: str) -> Pieces:
        """Yield a tensor of the restored model in consecutive pieces, see `Undoing`; the tensor is in memory whole."""
        if self.percent not in (0, 100):
            _, values, cut = self.decomposer.truncate(versions, name, self.percent)
            if cut:
                for start in range(0, len(values), PIECE):
                    yield start, stored_bits(values[start : start + PIECE], versions.dtypes[name], name)
                return
        yield from whole_pieces(versions, name, self.percent == 100)


def cut_ranks(versions: Versions, percents: Sequence[float], seed: int, threads: int = 1) -> list[LowRank]:
    """Undo what the smaller singular directions of every matrix's change hold, for several shares of the squared norm.

    Args:
        versions: the parameters of the region before and after training.
        percents: the shares of the squared norm that are undone.
        seed: the seed of randomised decompositions.
        threads: how many threads add up changes.

    Raises:
        KnowshiftError: a value is not finite.
    """
    between = [percent for percent in percents if 0 < percent < 100]
    sums, decomposer = sum_changes(versions, threads), Decomposer(seed)
    rows: dict[float, list[dict]] = {percent: [] for percent in percents}
    for name in progress(list(sums), what="decomposing", unit="tensors"):
        for percent, mine in rows.items():
            if percent in between:
                mine.append(_row(versions, name, sums[name], decomposer, percent))
            else:
                mine.append(whole_row(name, sums[name], percent == 100))
    return [LowRank(percent, tuple(rows[percent]), decomposer) for percent in percents]


def _row(versions: Versions, name: str, sums: ChangeSums, decomposer: Decomposer, percent: float) -> dict:
    """Make the row of one tensor, of which a share is undone."""
    before, values, cut = decomposer.truncate(versions, name, percent)
    if not cut:
        return whole_row(name, sums, False)
    left = np.abs(values - before) / (np.abs(before) + EPSILON)
    return tensor_row(name, sums, 0, 0, sums.total - float(left.sum(dtype=np.float64)))
