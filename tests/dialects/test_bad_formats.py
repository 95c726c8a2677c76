"""Rows 15 and 16 of the fault table over every other service's protocol: formats that cannot be served."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from tests.dialects.fault_stage import Answer, Refused, ends, fault_stage, over, stays
from tests.dialects.recogniser import silence

# Row 15: channels that cannot be ------------------------------------------------------------------------

CHANNELS: tuple[Any, ...] = (0, -1, 1.5, True, 10**9, "1", None, 10**40)
RATES: tuple[Any, ...] = (0, 1, -16_000, 16_000.5, True, 10**9, "fast", [], 10**400)


def in_query(value: Any) -> str:
    """Return a number as a query writes it."""
    return value if isinstance(value, str) else json.dumps(value)


@over(deepgram=Refused(400), flux=Refused(400), assemblyai=stays())
async def test_channels_in_the_query_are_refused_before_the_upgrade_if_they_have_an_effect(
    name: str, answer: Answer | Refused
) -> None:
    async with fault_stage(name) as stage, stage.beside():
        for value in CHANNELS:
            if isinstance(answer, Answer):  # the protocol has one channel
                async with stage.connected(channels=in_query(value)) as peer:
                    assert peer.socket._response.headers["X-Streamer-Ignored"] == "channels"
                    await stage.answers(peer, answer)
            elif value != "1":
                assert "channels: expected" in said(await stage.refuses(answer, channels=in_query(value)))


def said(refusal: aiohttp.WSServerHandshakeError) -> str:
    """Return the words of a refusal, in the header of Deepgram."""
    assert refusal.headers is not None
    return refusal.headers["dg-error"]


@over(wyoming=ends("end", "invalid_format"), twilio=ends(1008, "bad_request"))
async def test_channels_that_cannot_be_served_end_the_connection(name: str, answer: Answer) -> None:
    tracks = ((), ("a", "b", "c"), ("a", "a"), 1, True, None, "inbound", [1])
    async with fault_stage(name) as stage, stage.beside():
        for value in CHANNELS if name == "wyoming" else tracks:
            async with stage.connected() as peer:
                if name == "wyoming":
                    await peer.send("audio-start", {**peer.FORMAT, "channels": value})
                else:
                    await peer.text(peer.first(tracks=value))
                    answer = ends(1008)  # the call has not begun, so the feed does not have it
                await stage.answers(peer, answer)


@over(vosk=stays(), speechmatics=stays(), twilio=stays(), realtime=stays())
async def test_channels_have_no_effect_in_protocols_that_have_one(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside():
        for value in CHANNELS:
            async with stage.connected() as peer:
                await started_with(peer, name, channels=value)
                await stage.answers(peer, answer)


async def started_with(peer: Any, name: str, **changes: Any) -> None:
    """Start with changes of the format."""
    match name:
        case "vosk":
            await peer.text(json.dumps({"config": {"sample_rate": 8_000, **changes}}))
        case "realtime":
            format_ = {"type": "audio/pcm", "rate": 24_000, **changes}
            audio = {"input": {"format": format_}}
            await peer.text(
                json.dumps({"type": "session.update", "session": {"type": "transcription", "audio": audio}})
            )
        case "wyoming":
            await peer.send("audio-start", {**peer.FORMAT, **changes})
        case _:
            peer.is_started = True
            await peer.text(peer.first(**changes))


# Row 16: sample rates that cannot be --------------------------------------------------------------------


@over(deepgram=Refused(400), flux=Refused(400), assemblyai=Refused(400))
async def test_a_sample_rate_in_the_query_that_cannot_be_served_is_refused_before_the_upgrade(
    name: str, answer: Refused
) -> None:
    async with fault_stage(name) as stage, stage.beside():
        for value in (*RATES, "", "0x10", "16000 ", "\u0661\u0666\u0660\u0660\u0660"):
            refusal = await stage.refuses(answer, sample_rate=in_query(value))
            assert name == "assemblyai" or "sample_rate: expected" in said(refusal)


NO_INTEGER = {"realtime": stays("invalid_value"), "speechmatics": ends(1003, "invalid_message")}
"""The message is wrong, and not the format in it."""


@over(
    realtime=stays("invalid_format"),
    vosk=ends(1011),
    wyoming=ends("end", "invalid_format"),
    speechmatics=ends(1003, "invalid_audio_type"),
)
async def test_a_sample_rate_that_cannot_be_served_is_told(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside():
        for value in RATES:
            is_integer = isinstance(value, int) and not isinstance(value, bool)
            expected = answer if is_integer else NO_INTEGER.get(name, answer)
            async with stage.connected() as peer:
                await started_with(peer, name, **{"rate" if name in ("realtime", "wyoming") else "sample_rate": value})
                await stage.answers(peer, expected)


@over(twilio=stays())
async def test_twilios_audio_is_mu_law_of_8_khz_whatever_its_start_says(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside():
        for value in RATES[:-1]:
            async with stage.connected() as peer:
                await started_with(peer, name, sampleRate=value)
                await stage.answers(peer, answer)


async def test_a_kind_of_audiosocket_that_is_no_rate_is_hung_up() -> None:
    async with fault_stage("audiosocket") as stage, stage.beside():
        for kind in (0x02, 0x0F, 0x19, 0x7F, 0xFE):
            async with stage.connected() as peer:
                await peer.start()
                await peer.send(kind, silence(0.1))
                await stage.answers(peer, ends("hangup"))


async def test_another_rate_in_mid_call_is_hung_up() -> None:
    async with fault_stage("audiosocket") as stage, stage.beside(), stage.connected() as peer:
        await peer.start()
        await peer.audio(silence(0.1))
        await peer.send(0x10, silence(0.1))
        await stage.answers(peer, ends("end", "invalid_format"))  # to close the connection is to hang up


@pytest.mark.parametrize("name", ["wyoming"])
async def test_another_format_in_mid_command_is_an_error(name: str) -> None:
    async with fault_stage(name) as stage, stage.beside():
        for changes in ({"rate": 8_000}, {"rate": 0}, {"width": 1}, {"width": 9}, {"channels": 2}, {"channels": -1}):
            async with stage.connected() as peer:
                await peer.start()
                await peer.send("audio-chunk", {**peer.FORMAT, **changes}, silence(0.1))
                heard = await peer.rest()
                assert (heard.finals, heard.close) == ([], "end")
                assert heard.errors in (["bad_request"], ["invalid_format"])
