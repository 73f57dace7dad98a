"""Who goes with whom: the pairs of two sets that cost least together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(costs_NM: NDArray[np.floating]) -> list[tuple[int, int]]:
    """The pairs (row, column) of least total cost, one for each of the fewer; ordered by row.

    Shortest augmenting paths with dual prices (Jonker and Volgenant 1987), O(n^3); SciPy would be the ground floor's
    largest package, for this alone.
    """
    costs = np.asarray(costs_NM, dtype=np.float64)
    if costs.shape[0] > costs.shape[1]:
        return sorted((n, m) for m, n in assign(costs.T))
    rows, columns = costs.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns + 1)
    owner = np.full(columns + 1, -1)  # of each column; the last is where a new row starts from
    for row in range(rows):
        owner[columns], column = row, columns
        least, came_from = np.full(columns, np.inf), np.full(columns, columns)
        done = np.zeros(columns + 1, dtype=bool)
        while owner[column] >= 0:
            done[column] = True
            reduced = costs[owner[column]] - row_price[owner[column]] - column_price[:columns]
            better = ~done[:columns] & (reduced < least)
            least[better], came_from[better] = reduced[better], column
            following = int(np.where(done[:columns], np.inf, least).argmin())
            step = least[following]
            row_price[owner[done]] += step
            column_price[done] -= step
            least[~done[:columns]] -= step
            column = following
        while column != columns:
            owner[column] = owner[came_from[column]]
            column = int(came_from[column])
    return sorted((int(owner[m]), m) for m in range(columns) if owner[m] >= 0)
