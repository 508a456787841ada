"""One safety line, weakened: where it stands, what becomes of it, and the tests that must notice."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

TOP = Path(__file__).parents[2]


class Mutation(Struct, frozen=True):
    """A change that makes the product unsafe, and that must turn one of `tests` red."""

    name: str
    file: str
    line: str
    weakened: str
    tests: tuple[str, ...]

    def apply(self, top: Path) -> None:
        """Weaken the line in the tree at `top`.

        Raises:
            ValueError: the line is not there, or not only once.
        """
        path = top / self.file
        text = path.read_text()
        if text.count(self.line) != 1:
            raise ValueError(
                f"{self.name}: wanted once in {self.file}, found {text.count(self.line)} times: {self.line}"
            )
        path.write_text(text.replace(self.line, self.weakened))
