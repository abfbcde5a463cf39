"""Reads and sets a Jetson's power mode by its name, and never believes that it was set."""

from __future__ import annotations

import difflib
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Literal

from updraft.devices.nvpmodel import (
    CONFIGURATION,
    STATUS,
    NvpMode,
    kept_mode,
    plain_name,
    read_modes,
)
from updraft.devices.tree import Tree
from updraft.errors import ProbeError

_TOOLS = ("usr/sbin/nvpmodel", "usr/bin/nvpmodel", "sbin/nvpmodel")
_TOOL_S = 30

Change = Literal["unchanged", "set", "scheduled"]


class PowerControl:
    """The power modes of one board.

    Names are clock caps, not promises of watts, and ids differ from board to board: everything
    goes by name.

    Args:
        root: `/`; or a folder with the files of a board and an `nvpmodel` of its own.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def modes(self) -> tuple[NvpMode, ...]:
        """Return the modes of this board.

        Raises:
            ProbeError: it has none, or its configuration cannot be read.
        """
        tree = Tree(self._root)
        modes = read_modes(tree)
        if not modes:
            why = "; ".join(f"{u.what}: {u.why}" for u in tree.unread) or "the file is missing"
            raise ProbeError(
                f"/{CONFIGURATION}: no power modes here: {why}; only a Jetson has them"
            )
        return modes

    def current(self) -> NvpMode:
        """Return the mode in effect, asked of `nvpmodel`; without it, the one that is kept.

        Raises:
            ProbeError: nothing tells, or what is told is not one of this board's modes.
        """
        modes = self.modes()
        if (tool := self._tool()) is None:
            tree = Tree(self._root)
            if (kept := kept_mode(tree, modes)) is None:
                why = "; ".join(unread.why for unread in tree.unread) or "the file is missing"
                raise ProbeError(f"/{STATUS}: the power mode is not known: {why}")
            return kept
        told = self._run(tool, "-q")
        name = re.search(r"NV Power Mode:\s*(\S+)", told)
        if name is None:
            raise ProbeError(f"{tool} -q names no power mode: {told[:200]!r}")
        return self._named(name[1], modes)

    def set(self, name: str, schedule: bool = False) -> Change:
        """Change to a mode, now where that is possible, and verify that it is in effect.

        Args:
            schedule: where cores or GPU parts go on or off, keep the mode for the next boot
                instead of refusing; the caller reboots.

        Raises:
            ProbeError: there is no such mode; it needs a reboot and `schedule` is not given; it
                was refused; or it is still not in effect afterwards.
        """
        target, now = self._named(name, self.modes()), self.current()
        if target == now and self._kept() in (target, None):
            return "unchanged"
        if target.needs_reboot_from(now):
            if not schedule:
                raise ProbeError(
                    f"power mode {target.name!r} turns other cores or GPU parts on than "
                    f"{now.name!r}, which takes a reboot; without a terminal nvpmodel would keep "
                    f"{now.name!r} and not say so: schedule it for the next boot instead"
                )
            self._schedule(target)
            return "scheduled"
        if (tool := self._tool()) is None:
            raise ProbeError(f"none of /{', /'.join(_TOOLS)} is here: the mode cannot be changed")
        told = self._run(tool, "-m", str(target.id))
        if (after := self.current()) != target:
            if schedule:
                self._schedule(target)
                return "scheduled"
            raise ProbeError(
                f"{tool} -m {target.id} ({target.name}) ended well, and {after.name!r} is still in "
                f"effect; it may want a reboot: schedule it. It said: {told[:200]!r}"
            )
        return "set"

    def _named(self, name: str, modes: tuple[NvpMode, ...]) -> NvpMode:
        by_name = {plain_name(mode.name): mode for mode in modes}
        if found := by_name.get(plain_name(name)):
            return found
        known = [mode.name for mode in modes]
        close = difflib.get_close_matches(name.upper(), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
        raise ProbeError(f"power mode {name!r} is not one of this board; {hint}")

    def _tool(self) -> Path | None:
        paths = (self._root / tool for tool in _TOOLS)
        return next((path for path in paths if path.is_file()), None)

    def _run(self, tool: Path, *arguments: str) -> str:
        called = f"{tool} {' '.join(arguments)}"
        try:
            # It asks whether to reboot now; nobody is there to answer.
            done = subprocess.run(
                [tool, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TOOL_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ProbeError(f"{called}: no answer within {_TOOL_S} s") from error
        except OSError as error:
            raise ProbeError(f"{called}: cannot be run: {error.strerror}") from error
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        if done.returncode != 0:
            raise ProbeError(
                f"{called}: ended with {done.returncode}: {said[:200]!r}; changing the mode takes "
                "root rights"
            )
        return said

    def _kept(self) -> NvpMode | None:
        return kept_mode(Tree(self._root), self.modes())

    def _schedule(self, target: NvpMode) -> None:
        """Write the mode where the board looks for it when it boots; other settings stay."""
        path = self._root / STATUS
        kept = Tree(self._root).text(STATUS) or ""
        rest = [word for word in kept.split() if word.isascii() and not word.startswith("pmode:")]
        fresh = path.with_name(path.name + ".new")
        try:
            fresh.write_text(" ".join([f"pmode:{target.id:04d}", *rest]) + "\n", encoding="ascii")
            fresh.replace(path)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink()
            raise ProbeError(
                f"{path}: the mode cannot be kept: {error}; changing it takes root rights"
            ) from error
        if (after := self._kept()) != target:
            raise ProbeError(
                f"{path}: says {after and after.name!r} after {target.name!r} was kept"
            )
