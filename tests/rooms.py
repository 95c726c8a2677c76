"""Who may import whom, and the page that shows it: `python -m tests.rooms` writes its table and its drawing again."""

from __future__ import annotations

from collections.abc import Iterator

from tests.architecture import ROOT, Module, modules

PAGE = ROOT / "docs/design/architecture.md"
WORDS = ("session.messages", "session.events", "session.actions", "session.settings", "session.summary")
BELOW_CONNECTION = (
    "errors",
    "transcripts",
    "clock",
    "parent_death",
    "access",
    "audio",
    "media",
    "vad",
    "session",
    "models",
    "inference",
    "protocols",
    "telemetry.observer",
    "config",
)
BELOW_SHELL = (*BELOW_CONNECTION, "connection")

# Who may import whom: downwards only. The longest prefix that matches a module is its rule; a module may always import
# its own room. A name that is missing here is an error: say where a new room stands.
LAYERS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "clock": (),
    "parent_death": (),
    "samples": (),
    "transcripts": (),
    "build": ("session",),
    "access": ("errors",),
    "access.factory": ("access", "errors", "config", "session.settings"),
    "audio": ("errors",),
    "vad": ("errors", "audio"),
    "vad.endpointer": ("vad.settings",),
    "vad.scorer": ("errors",),
    "vad.settings": ("errors",),
    "telemetry.observer": ("errors", *WORDS),
    "media": ("errors", "audio"),
    "session": ("errors", "audio", "media", "vad.endpointer", "vad.settings"),
    "config": ("errors", "audio", "media.formats", "vad.settings", "inference.settings", *WORDS),
    "models": ("errors", "audio", "transcripts", *WORDS),
    "protocols": ("errors", "audio", "media.formats", "transcripts", *WORDS),
    "inference": (
        "errors",
        "clock",
        "parent_death",
        "audio",
        "models.contract",
        "models.checking",
        "models.author_errors",
        "telemetry.observer",
        "transcripts",
        *WORDS,
    ),
    "inference.scheduler": ("errors", "session.actions"),
    "connection": BELOW_CONNECTION,
    "telemetry": (*BELOW_SHELL, "root"),
    "transports": (*BELOW_SHELL, "root", "telemetry"),
    "client": (
        "errors",
        "audio",
        "media.formats",
        "transcripts",
        "protocols",
        "telemetry.observer",
        "root",
        *WORDS,
    ),
    "evaluation": ("errors",),
    "testing": (*BELOW_SHELL, "root", "transports", "client", "telemetry", "parts", "dialects", "app", "samples"),
    "parts": (*BELOW_SHELL, "root", "telemetry"),
    "endpoints": (*BELOW_SHELL, "root", "transports", "telemetry", "parts"),
    "dialects": (*BELOW_SHELL, "root", "transports", "telemetry", "parts", "endpoints"),
    "app": (*BELOW_SHELL, "root", "transports", "telemetry", "parts", "endpoints", "dialects"),
    "supervision": (*BELOW_SHELL, "root", "transports", "telemetry", "parts", "dialects", "app"),
    "loadtest": (*BELOW_SHELL, "root", "transports", "client", "telemetry", "parts", "dialects", "app", "samples"),
    "cli": (
        *BELOW_SHELL,
        "root",
        "transports",
        "client",
        "telemetry",
        "parts",
        "dialects",
        "app",
        "supervision",
        "samples",
        "loadtest",
        "build",
        "evaluation",
    ),
    "__main__": ("cli",),
    "root": ("errors", "audio", "media.formats", "vad", "session", "models", "client", "config", "transcripts"),
}

NAMES = {module.name for module in modules()}


def room(module: str) -> str:
    """The name a module has in the table: without `streamer.`; the package itself is `root`."""
    return module.removeprefix("streamer").removeprefix(".") or "root"


def imported_modules(module: Module) -> Iterator[str]:
    """The modules of the package that a module imports; a package's own modules do not count for its `__init__`."""
    for _, imported in module.imports():
        name = imported
        while name and name not in NAMES:
            name = name.rpartition(".")[0]
        if name and name != module.name and not name.startswith(module.name + "."):
            yield name


def page() -> str:
    """Return the page with its table and its drawing as they should be."""
    return _replaced(_replaced(PAGE.read_text(), "table", table()), "drawing", drawing())


def _replaced(text: str, name: str, content: str) -> str:
    """Put `content` between the comments that name it."""
    begin, end = f"<!-- {name}: python -m tests.rooms -->\n", f"<!-- end of the {name} -->"
    before, _, rest = text.partition(begin)
    return before + begin + content + end + rest.partition(end)[2]


def table() -> str:
    """Return LAYERS as a table. A room that may import all that another may import says so by its name."""
    lines = ["| room | may import |", "|---|---|"]
    for name, allowed in LAYERS.items():
        lines.append(f"| `{name}` | {_shortened(name, allowed)} |")
    return "\n".join(lines) + "\n"


def _shortened(name: str, allowed: tuple[str, ...]) -> str:
    parts = []
    rest = list(allowed)
    if name != "connection" and set(BELOW_SHELL) <= set(rest):
        parts.append("`connection` and all that it may import")
        rest = [each for each in rest if each not in BELOW_SHELL]
    if set(WORDS) <= set(rest):
        parts.append("the session's values")
        rest = [each for each in rest if each not in WORDS]
    return ", ".join([*parts, *(f"`{each}`" for each in rest)]) or "nothing"


def drawing() -> str:
    """Return a Mermaid graph of the rooms. An arrow that follows from others is left out."""
    arrows = _arrows()
    lines = ["```mermaid", "graph TD"]
    for target in sorted({room for needs in arrows.items() for room in (needs[0], *needs[1])}):
        lines.append(f"  {target}")
    for source in sorted(arrows):
        lines += [
            f"  {source} --> {target}" for target in sorted(arrows[source]) if not _follows(arrows, source, target)
        ]
    return "\n".join([*lines, "```"]) + "\n"


def _arrows() -> dict[str, set[str]]:
    """Return which room imports which, without what stands above all of them and the package itself."""
    arrows: dict[str, set[str]] = {}
    for module in modules():
        source = _drawn(module.name)
        for imported in imported_modules(module):
            target = _drawn(imported)
            if source and target and source != target:
                arrows.setdefault(source, set()).add(target)
    return arrows


def _drawn(module: str) -> str:
    """The room of a module in the drawing, or nothing for one that is not drawn."""
    name = room(module)
    if name in APART:
        return name.replace(".", "_")
    first = name.partition(".")[0]
    return "" if first in ("root", "__main__", "build", "samples", "cli", "testing", "errors") else first


APART = ("telemetry.observer", "access.factory")
"""Modules that stand on another floor than the rest of their room."""


def _follows(arrows: dict[str, set[str]], source: str, target: str) -> bool:
    """Whether there is a longer way from `source` to `target`."""
    seen: set[str] = set()
    waiting = [each for each in arrows[source] if each != target]
    while waiting:
        each = waiting.pop()
        if each == target:
            return True
        if each not in seen:
            seen.add(each)
            waiting += arrows.get(each, ())
    return False


if __name__ == "__main__":
    PAGE.write_text(page())
