"""The files of a system below a root: the running one's, or a copy of another's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# What is read here is a page or two; a wrong file must not fill the memory.
_MOST_BYTES = 16 * 2**20

# Nobody's terminal is to obey what stands in a damaged or foreign file.
_CONTROLS: dict[int, str | None] = dict.fromkeys(
    (*range(9), *range(11, 32), *range(127, 160)), "\ufffd"
)
_CONTROLS[ord("\r")] = None


def printable(text: str) -> str:
    """Return a text with nothing in it that a terminal would obey."""
    return text.translate(_CONTROLS)


@dataclass(frozen=True)
class Unread:
    """Something that should be readable and is not.

    Attributes:
        what: the file, or the library.
        why: for people, with what to do where something can be done.
    """

    what: str
    why: str


class Tree:
    """Reads files below a root and keeps a list of what failed; nothing is ever raised.

    Attributes:
        root: `/` for the running system.
        unread: what exists and could not be read or made no sense.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unread: list[Unread] = []

    @property
    def is_live(self) -> bool:
        """Whether it is the running system, whose libraries can be asked too."""
        return self.root.resolve() == Path("/")

    def text(self, path: str) -> str | None:
        """Return a file's text; None where it is missing, unreadable or empty.

        Device-tree strings end with NUL and lists of them are divided by it: they become lines.
        """
        content = self.content(path)
        return None if content is None else printable(content).strip() or None

    def content(self, path: str) -> str | None:
        """Return what stands in a file, for searching; what is shown of it must be `printable`."""
        file = self.root / path
        try:
            with file.open("rb") as stream:
                content = stream.read(_MOST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.complain(path, error.strerror or str(error))
            return None
        return content.decode("utf-8", errors="replace").rstrip("\0").replace("\0", "\n")

    def folders(self, path: str) -> list[str]:
        """Return the paths of what a folder holds, sorted; empty where there is none."""
        try:
            return sorted(f"{path}/{entry.name}" for entry in (self.root / path).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.complain(path, error.strerror or str(error))
            return []

    def complain(self, path: str, why: str) -> None:
        """Note that a file is no use."""
        self.unread.append(Unread(f"/{path}", why))
