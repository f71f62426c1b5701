"""A planted fault: a realistic mistake in the product's own code, and the tests that notice it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fault:
    """`old` is in `file` exactly once, and is replaced by `new`. Each of `caught_by`, ids of pytest, must fail."""

    name: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]

    def plant(self, root: Path) -> None:
        """Replace the text in the tree below `root`."""
        path = root / self.file
        source = path.read_text()
        assert source.count(self.old) == 1, (
            f"{self.name}: the text is {source.count(self.old)} times in {self.file}"
        )
        path.write_text(source.replace(self.old, self.new))
