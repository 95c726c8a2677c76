"""The room of the dialects: which are served, what `info` says of them, ports of their own, `/` beside the page."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, get_args, get_type_hints

import aiohttp
import pytest

from streamer.app import App
from streamer.config import Settings, load
from streamer.config.settings import DialectSettings
from streamer.config.sources import Override
from streamer.dialects import table
from streamer.dialects.dialect import DialectContext, MountedDialect
from streamer.errors import ConfigError
from streamer.protocols.opening import Accepted, Opening
from streamer.protocols.v2 import V2Codec
from streamer.session.events import Mode
from streamer.transports.handshake import Endpoint
from streamer.transports.websocket import WebSocketFrame
from tests.dialects.stage import transcribing
from tests.transports.serving import V2_START, dialled, serving


class Port:
    """A listener that remembers what happened to it."""

    def __init__(self) -> None:
        self.happened: list[str] = []

    async def start(self, host: str) -> int:
        self.happened.append(f"start {host}")
        return 7

    async def stop(self, timeout_s: float) -> None:
        self.happened.append("stop")


PORT = Port()


def _mount(context: DialectContext) -> MountedDialect:
    settings = context.session(Mode.SEGMENTED)
    codec = V2Codec(Mode.SEGMENTED, context.model.sample_rate)

    def accept(_: Opening) -> Accepted[WebSocketFrame]:
        return Accepted(codec)

    endpoints = tuple(Endpoint(path, settings, accept, ()) for path in ("/", "/toy"))
    return MountedDialect(endpoints, listeners=(PORT,))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of two dialects: `deepgram`, and `wyoming` with a port; any other name is not there."""
    PORT.happened.clear()
    module: Any = ModuleType("toy_dialect")
    module.mount = _mount
    module.__spec__ = sys.__spec__
    monkeypatch.setitem(sys.modules, "toy_dialect", module)
    modules = {"deepgram": "toy_dialect", "wyoming": "toy_dialect", "vosk": "streamer.dialects.nothing"}
    monkeypatch.setattr(table, "MODULES", modules)


def chosen(*serve: str, word_times: str = "model") -> tuple[str, ...]:
    return table.select(serve, model="m", word_times=word_times)


def test_every_name_of_the_setting_is_in_the_table() -> None:
    choices = get_args(get_type_hints(DialectSettings)["serve"])[0]
    assert set(get_args(choices)) == {*table.MODULES, "auto", "all", "none"}


@pytest.mark.usefixtures("toy")
def test_a_model_that_returns_transcripts_has_the_dialects_on_the_servers_port_by_default() -> None:
    assert chosen("auto") == ("deepgram",)
    assert chosen("auto", word_times="") == ()


@pytest.mark.usefixtures("toy")
def test_all_means_also_those_with_a_port_of_their_own_and_none_means_none() -> None:
    assert chosen("all") == ("deepgram", "wyoming")
    assert chosen("wyoming") == ("wyoming",)
    assert chosen("none") == ()


@pytest.mark.usefixtures("toy")
def test_a_dialect_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"deepgram, wyoming\), got 'vosk'"):
        chosen("vosk")


@pytest.mark.usefixtures("toy")
def test_asking_for_a_dialect_of_a_model_without_transcripts_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="word_times"):
        chosen("deepgram", word_times="")


def test_all_none_and_auto_stand_alone() -> None:
    with pytest.raises(ConfigError, match=r"--dialects: dialects\.serve: expected none alone"):
        load(environ={}, flags=[Override("--dialects", "dialects.serve", "none,deepgram")])
    with pytest.raises(ConfigError, match=r"dialects\.serve"):
        load(environ={}, flags=[Override("--dialects", "dialects.serve", "deepgrm")])


@pytest.mark.usefixtures("toy")
async def test_info_names_the_dialects_that_are_served() -> None:
    async with (
        serving(transcribing()) as app,
        aiohttp.ClientSession() as http,
        http.get(app.url + "/api/v2/info") as response,
    ):
        assert (await response.json())["dialects"] == ["v1", "v2", "deepgram"]


@pytest.mark.usefixtures("toy")
async def test_a_dialect_at_the_root_shares_it_with_the_page() -> None:
    async with serving(transcribing()) as app, aiohttp.ClientSession() as http:
        async with http.get(app.url + "/") as response:
            assert "text/html" in response.headers["Content-Type"]
        async with dialled(app, "/") as socket:
            await socket.send_json(V2_START)
            assert (await socket.receive_json())["type"] == "started"


@pytest.mark.usefixtures("toy")
async def test_a_dialect_at_the_root_needs_no_page() -> None:
    async with serving(transcribing(), server={"page": False}) as app, dialled(app, "/") as socket:
        await socket.send_json(V2_START)
        assert (await socket.receive_json())["type"] == "started"


@pytest.mark.usefixtures("toy")
async def test_ports_of_dialects_open_and_close_with_the_server() -> None:
    async with serving(transcribing(), dialects={"serve": "wyoming"}) as app:
        assert app.dialects.ports == {"wyoming": 7}
        assert PORT.happened == ["start 127.0.0.1"]
    assert PORT.happened == ["start 127.0.0.1", "stop"]


async def test_the_source_of_a_wrong_selection_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        App(Settings(dialects={"serve": ("deepgram",)}))  # type: ignore[arg-type]
    assert caught.value.field == "dialects.serve"
