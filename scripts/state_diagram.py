"""Draw the session's table of states as a mermaid diagram, the one that docs/how/core.md shows."""

from __future__ import annotations

from streamer.session.state import TABLE, SessionState, SessionStep

_GOES_TO = {
    SessionStep.OPEN: SessionState.STREAMING,
    SessionStep.REOPEN: SessionState.STREAMING,
    SessionStep.FLUSH: SessionState.FLUSHING,
    SessionStep.FINISH: SessionState.FINISHING,
    SessionStep.RESTART: SessionState.FINISHING,
    SessionStep.HALF_CLOSE: SessionState.CLOSED,
}
_BY_THEMSELVES = [
    (SessionState.FLUSHING, SessionState.STREAMING, "all scored"),
    (SessionState.STREAMING, SessionState.FLUSHING, "stall"),
    (SessionState.FINISHING, SessionState.IDLE, "all answered"),
    (SessionState.FINISHING, SessionState.CLOSED, "all answered, closing"),
    (SessionState.NEW, SessionState.CLOSED, "start_timeout"),
    (SessionState.IDLE, SessionState.CLOSED, "idle_timeout"),
]


def diagram() -> str:
    """The diagram's source: the table's moves, and those that time and answers make."""
    lines = ["stateDiagram-v2", "    [*] --> new"]
    for state, row in TABLE.items():
        for message, step in row.items():
            if (target := _GOES_TO.get(step)) is not None:
                lines.append(f"    {state.value} --> {target.value}: {message.__name__}")
    lines += [f"    {source.value} --> {target.value}: ({why})" for source, target, why in _BY_THEMSELVES]
    return "\n".join([*lines, "    closed --> [*]"])


if __name__ == "__main__":
    print(diagram())
