"""Draw the session's table of states as a mermaid diagram, the one that docs/how/core.md shows."""

from __future__ import annotations

from streamer.session.state import TABLE, State, Step

_GOES_TO = {
    Step.OPEN: State.STREAMING,
    Step.REOPEN: State.STREAMING,
    Step.FLUSH: State.FLUSHING,
    Step.FINISH: State.FINISHING,
    Step.RESTART: State.FINISHING,
    Step.LEAVE: State.CLOSED,
}
_BY_THEMSELVES = [
    (State.FLUSHING, State.STREAMING, "all scored"),
    (State.STREAMING, State.FLUSHING, "stall"),
    (State.FINISHING, State.IDLE, "all answered"),
    (State.FINISHING, State.CLOSED, "all answered, closing"),
    (State.NEW, State.CLOSED, "start_timeout"),
    (State.IDLE, State.CLOSED, "idle_timeout"),
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
