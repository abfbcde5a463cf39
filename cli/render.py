"""How tokens are coloured by where they came from."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.segment import Segment, Segments
from rich.text import Text

_EDGE_STYLES = ("green", "cyan", "blue", "magenta")
_CLOUD_STYLE = "bold yellow"


def print_verbatim(console: Console, text: str, style: str) -> None:
    """Print text as it is: `Console.print` would replace tabs and what looks like an emoji."""
    segment = Segment(text, console.get_style(style))
    console.print(Segments([segment]), end="", soft_wrap=True)


def source_style(source: str, verified: bool = True) -> str:
    """Return the style of a token; what the cloud should have seen is underlined."""
    if source == "cloud":
        style = _CLOUD_STYLE
    else:
        style = _EDGE_STYLES[int(source.removeprefix("exit_")) % len(_EDGE_STYLES)]
    return style if verified else f"{style} underline"


def source_legend(sources: Iterable[str]) -> Text:
    """Return a line that explains the colours."""
    legend = Text("colours: ")
    for source in sources:
        if source != "stop":
            legend.append(source.replace("_", " "), source_style(source)).append("  ")
    return legend.append("underlined = unverified")
