"""The house keeps its shape: who may import whom, what the pure rooms may not know, how long things may get."""

from __future__ import annotations

import ast

import pytest

from tests.architecture import ROOT, Module, modules, under
from tests.rooms import LAYERS, PAGE, imported_modules, page, room

PURE = (
    "access",
    "media",
    "session",
    "audio",
    "transcripts",
    "vad.endpointer",
    "vad.settings",
    "protocols",
    "inference.scheduler",
)
IMPURE_PARTS = ("access.factory",)
"""Modules of a pure room that read files, log and know the time: what makes the rest from settings."""
IMPURE = (
    "asyncio", "threading", "time", "socket", "logging", "random", "os",
    "opentelemetry", "prometheus_client", "grpc", "aiohttp",
)  # fmt: skip

MAX_FILE = 600
MAX_FILE_WITHOUT_REASON = 400
MAX_FUNCTION = 60
LONG_FILES: dict[str, str] = {
    "src/streamer/session/session.py": "the steps of one state machine, each a few lines",
}
"""Files past 400 lines, by path, each with the reason why it is not cut."""

MODULES = modules()


def rule(module: Module) -> str:
    """The longest prefix of the table that covers a module."""
    matches = [name for name in LAYERS if under(room(module.name), name)]
    if not matches:
        pytest.fail(f"{module.where}: no layer covers it; say in LAYERS what it may import")
    return max(matches, key=len)


def imported_room(name: str) -> str:
    """The room of an imported `streamer...` name; a public name of the package (streamer.connect) is `root`."""
    known = {room(module.name).partition(".")[0] for module in MODULES}
    inner = room(name)
    return inner if inner.partition(".")[0] in known else "root"


def smallest_circle(needs: dict[str, set[str]]) -> list[str]:
    """One of the shortest ways from a module back to itself. Every module of `needs` needs another one of them."""
    circles = []
    for start in needs:
        ways = [[start]]
        seen = set()
        while ways:
            way = ways.pop(0)
            if start in needs[way[-1]]:
                circles.append([*way, start])
                break
            for following in sorted((needs[way[-1]] & needs.keys()) - seen):
                seen.add(following)
                ways.append([*way, following])
    return min(circles, key=len)


def list_of(problems: list[str]) -> str:
    return "\n  " + "\n  ".join(problems)


def test_imports_go_downwards_only() -> None:
    problems = []
    for module in MODULES:
        name = rule(module)
        own = name.partition(".")[0]
        for line, imported in module.imports():
            if not under(imported, "streamer"):
                continue
            target = imported_room(imported)
            narrower = name != own  # a rule for a part of a room does not open the rest of the room
            if under(target, name if narrower else own) or any(under(target, allowed) for allowed in LAYERS[name]):
                continue
            may = ", ".join(LAYERS[name]) or "nothing of streamer"
            problems.append(f"{module.where}:{line} imports {imported}; `{name}` may import: {may}")
    assert not problems, list_of(problems)


def test_the_page_shows_the_rooms_as_they_are() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.rooms`, which writes the table and the drawing again"


SAME_CLASS_NAMES = {
    "Stream": "a stream, seen by the session and by the client",
    "AudioChunk": "audio out, as the session counts it and as the client receives it",
}
"""Names of several classes, each with the reason. Wire modules name their messages as the session does."""


def test_a_class_name_means_one_thing() -> None:
    homes: dict[str, list[str]] = {}
    for module in MODULES:
        if not module.name.endswith("_wire"):
            for node in module.tree.body:
                if isinstance(node, ast.ClassDef):
                    homes.setdefault(node.name, []).append(module.where)
    problems = [f"{name}: {', '.join(places)}" for name, places in homes.items() if len(places) > 1]
    problems = [problem for problem in problems if problem.partition(":")[0] not in SAME_CLASS_NAMES]
    assert not problems, list_of(problems)


def test_no_module_needs_itself() -> None:
    """A circle of imports has no bottom to start reading from, and breaks when an import moves out of a function."""
    needs = {module.name: set(imported_modules(module)) for module in MODULES}
    circles = []
    while needs:
        leaves = {name for name, others in needs.items() if not others & needs.keys()}
        if not leaves:
            circles = smallest_circle(needs)
            break
        needs = {name: others for name, others in needs.items() if name not in leaves}
    assert not circles, " -> ".join(circles)


def test_pure_rooms_know_no_world() -> None:
    problems = [
        f"{module.where}:{line} imports {imported}: a pure room has no clock, socket, thread, log or chance"
        for module in MODULES
        if any(under(room(module.name), pure) for pure in PURE) and room(module.name) not in IMPURE_PARTS
        for line, imported in module.imports()
        if any(under(imported, impure) for impure in IMPURE)
    ]
    assert not problems, list_of(problems)


def test_only_tokens_logs_and_traces_know_what_time_it_is() -> None:
    """Timeouts and latencies use the monotonic clock: a wall clock that jumps by an hour must change nothing."""
    knowing = ("access.factory", "telemetry", "cli", "loadtest")
    telling = ("time.time", "time.time_ns", "datetime.datetime")
    problems = [
        f"{module.where}:{node.lineno} asks for {ast.unparse(node)}"
        for module in MODULES
        if not any(under(room(module.name), name) for name in knowing)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in telling
    ]
    assert not problems, list_of(problems)


def test_ray_is_imported_in_the_bridge_alone() -> None:
    """Its core ends the process of a driver whose cluster is gone."""
    problems = [
        f"{module.where}:{line} imports {imported}"
        for module in MODULES
        if module.where != "src/streamer/inference/ray_host.py"
        for line, imported in module.imports()
        if under(imported, "ray")
    ]
    assert not problems, list_of(problems)


def test_files_stay_short() -> None:
    problems = []
    for module in MODULES:
        if module.lines > MAX_FILE:
            problems.append(f"{module.where}: {module.lines} lines; none may pass {MAX_FILE}: cut it along its joints")
        elif module.lines > MAX_FILE_WITHOUT_REASON and module.where not in LONG_FILES:
            problems.append(
                f"{module.where}: {module.lines} lines; past {MAX_FILE_WITHOUT_REASON}, LONG_FILES says why"
            )
    stale = LONG_FILES.keys() - {module.where for module in MODULES if module.lines > MAX_FILE_WITHOUT_REASON}
    problems += [f"{path}: is not long (any more); take it out of LONG_FILES" for path in sorted(stale)]
    assert not problems, list_of(problems)


def test_functions_fit_a_screen() -> None:
    problems = [
        f"{module.where}:{line} {name}() has {length} lines without its docstring; at most {MAX_FUNCTION}"
        for module in MODULES
        for line, name, length in module.functions()
        if length > MAX_FUNCTION
    ]
    assert not problems, list_of(problems)


def test_every_module_says_why_it_exists() -> None:
    problems = [f"{module.where}: no docstring" for module in MODULES if not ast.get_docstring(module.tree)]
    assert not problems, list_of(problems)


def test_every_folder_of_sources_is_a_package() -> None:
    folders = {module.path.parent for module in MODULES}
    problems = [
        f"{folder.relative_to(ROOT)}: no __init__.py" for folder in folders if not (folder / "__init__.py").exists()
    ]
    assert not problems, list_of(problems)


def test_nothing_a_user_sees_points_outside_the_project() -> None:
    files = [*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "mkdocs.yml"]
    for folder in ("src", "docs", "benchmarks", "scripts", "examples", "deploy"):
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix not in {".wav", ".png", ".pyc", ".npz"}]
    outside = "../" + "shared"
    problems = [
        f"{path.relative_to(ROOT)}:{number}: {outside}"
        for path in files
        if path.is_file()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if outside in line
    ]
    assert not problems, list_of(problems)
