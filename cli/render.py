"""How tokens are coloured by where they came from."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

_EDGE_STYLES = ("green", "cyan", "blue", "magenta")
_CLOUD_STYLE = "bold yellow"


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
