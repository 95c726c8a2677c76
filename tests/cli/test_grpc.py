"""gRPC as its users meet it: `streamer serve` and `streamer client` as processes."""

from __future__ import annotations

import json
import signal

import pytest

import streamer
from streamer.client import ConnectionClosed, Draining, Event, Finished, Segment, Started
from streamer.errors import ErrorCode
from streamer.samples import sample
from tests.cli.serving import served
from tests.cli.test_client import run
from tests.transports.carriers import serving_all

QUICK = ("--set", "model.warmup_penalty=0", "--set", "model.delay=0.01", "--set", "drain.lag_s=0")


async def test_the_client_streams_a_recording_in_both_modes() -> None:
    async with serving_all() as (app, _):
        for arguments, mode in (([], "segmented"), (["--simple"], "simple")):
            code, out, err = await run("-i", sample(), "-a", app.grpc_url, "--json", *arguments)
            assert code == 0, err
            events = [json.loads(line) for line in out.splitlines()]
            assert (events[0]["type"], events[0]["mode"]) == ("started", mode)
            assert (events[-1]["type"], events[-1]["processed"]) == ("finished", 111_040)
            assert [event for event in events if event["type"] == "segment"]


async def test_sigterm_sees_a_live_call_out() -> None:
    with served("stub", "--grpc-port", "-1", *QUICK, "--set", "drain.soft_s=0.3") as server:
        assert server.process.stderr is not None
        url = next(line.split()[-1] for line in server.process.stderr if "grpc://" in line)
        async with streamer.connect(url, mode="simple") as stream:
            await stream.send(bytes(32_000))
            heard: list[Event] = [await anext(stream)]
            server.signal(signal.SIGTERM)
            heard += [event async for event in stream]
            assert [type(event) for event in heard if isinstance(event, Started | Draining | Finished)] == [
                Started,
                Draining,
                Finished,
            ]
            assert sum(event.output["count"] for event in heard if isinstance(event, Segment)) == 16_000
            with pytest.raises(ConnectionClosed) as closed:
                await anext(stream)
            assert closed.value.code is ErrorCode.DRAINING
        code, said = server.ended()
        assert code == 0
        assert "Traceback" not in said
