"""The rules of tic-tac-toe and the best moves. A board is nine cells: 1 own, -1 other, 0 free."""

from __future__ import annotations

from functools import cache

Board = tuple[int, ...]

EMPTY: Board = (0,) * 9

_LINES = (
    *((r, r + 1, r + 2) for r in (0, 3, 6)),
    *((c, c + 3, c + 6) for c in (0, 1, 2)),
    (0, 4, 8),
    (2, 4, 6),
)


def wins(board: Board, side: int) -> bool:
    return any(all(board[i] == side for i in line) for line in _LINES)


def play(board: Board, cell: int, side: int) -> Board:
    return (*board[:cell], side, *board[cell + 1 :])


def free_cells(board: Board) -> list[int]:
    return [i for i, owner in enumerate(board) if owner == 0]


@cache
def best(board: Board) -> tuple[int, tuple[int, ...]]:
    """Value for the side to move (1 win, 0 draw, -1 loss) and every move that reaches it."""
    if wins(board, -1):
        return -1, ()
    free = free_cells(board)
    if not free:
        return 0, ()
    values = {i: -best(tuple(-c for c in play(board, i, 1)))[0] for i in free}
    top = max(values.values())
    return top, tuple(i for i, value in values.items() if value == top)


def positions() -> list[Board]:
    """Every position that can come up with a move to make, seen from the side to move."""
    seen: dict[Board, None] = {}
    queue = [EMPTY]
    while queue:
        board = queue.pop()
        if board in seen or wins(board, -1) or not free_cells(board):
            continue
        seen[board] = None
        queue += [tuple(-c for c in play(board, i, 1)) for i in free_cells(board)]
    return list(seen)
