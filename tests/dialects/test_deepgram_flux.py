"""The codec of Deepgram's `/v2/listen` (Flux) in front of a real session, and its SDK on a real socket."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import BadRequest, ErrorCode
from streamer.protocols.deepgram.flux import Flux
from streamer.protocols.deepgram.flux_query import FluxRequest, read_flux
from streamer.protocols.deepgram.shared_query import ListenPolicy
from streamer.session.actions import Job, JobFailed, JobKind, Outcome, Output
from streamer.session.events import Mode
from streamer.session.settings import SessionSettings
from streamer.testing import s16le, silence, tone
from tests.audio.cuts import pieces
from tests.dialects.deepgram import IDENTITY, RAW, client, of_type, unknown_fields
from tests.dialects.stage import GAP, TONE, converse, recognise, transcribing
from tests.fuzz.text_dialects import play_lines
from tests.transports.serving import dialled, serving

CLOSE = '{"type":"CloseStream"}'
FORCE = '{"type":"ForceEndTurn"}'


def request(*model_options: str, refuse_ignored: bool = False, **query: str) -> FluxRequest:
    policy = ListenPolicy(SessionSettings(Mode.SEGMENTED), 300, model_options, refuse_ignored=refuse_ignored)
    return read_flux(tuple((RAW | query).items()), policy)


def flux(*model_options: str, **query: str) -> Flux:
    return Flux(request(*model_options, **query), IDENTITY, 16_000)


def turns(heard: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(info["event"], info["turn_index"], info["transcript"]) for info in of_type(heard, "TurnInfo")]


def without_updates(heard: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [turn for turn in turns(heard) if turn[0] != "Update"]


async def test_the_server_greets_and_each_message_has_the_next_number() -> None:
    heard = await converse(flux(), [TONE, GAP, "hello", TONE, FORCE, CLOSE])
    assert heard[0] == {"type": "Connected", "request_id": "request-1", "sequence_id": 0}
    assert [message["sequence_id"] for message in heard] == list(range(len(heard)))


async def test_a_turn_starts_with_its_first_words_and_ends_with_its_utterance() -> None:
    heard = await converse(flux(), [TONE, GAP, TONE, GAP, CLOSE])
    assert without_updates(heard) == [
        ("StartOfTurn", 0, "Number 1"),
        ("EndOfTurn", 0, "Number 1."),
        ("StartOfTurn", 1, "Number 2"),
        ("EndOfTurn", 1, "Number 2."),
    ]
    ends = [info for info in of_type(heard, "TurnInfo") if info["event"] == "EndOfTurn"]
    assert [(end["trigger"], end["end_of_turn_confidence"]) for end in ends] == [("model", 1.0)] * 2
    assert [word["word"] for word in ends[0]["words"]] == ["Number", "1."]
    assert ends[0]["audio_window_start"] < ends[0]["audio_window_end"] < ends[1]["audio_window_start"]


async def test_updates_have_the_whole_turn_and_no_trigger() -> None:
    heard = await converse(flux(), [s16le(tone(440, 3.0)), CLOSE])
    updates = [info for info in of_type(heard, "TurnInfo") if info["event"] == "Update"]
    assert updates
    assert all("trigger" not in info and info["transcript"] == "Number 1" for info in updates)


async def test_noise_is_no_turn() -> None:
    heard = await converse(flux(), [TONE, GAP, CLOSE], lambda _: Output.of({"text": ""}))
    assert [message["type"] for message in heard] == ["Connected"]


async def test_a_turn_whose_interims_had_words_ends_even_if_its_final_has_not() -> None:
    def answer(job: Job) -> Outcome:
        return Output.of("words" if job.kind is JobKind.INTERIM else "")

    heard = await converse(flux(), [TONE, GAP, CLOSE], answer)
    assert without_updates(heard) == [("StartOfTurn", 0, "words"), ("EndOfTurn", 0, "")]


async def test_speech_that_is_cut_for_its_length_is_one_turn() -> None:
    heard = await converse(flux(), [s16le(tone(440, 31.5)), GAP, CLOSE])
    assert without_updates(heard) == [("StartOfTurn", 0, "Number 1"), ("EndOfTurn", 0, "Number 1. Number 2.")]
    [*_, end] = of_type(heard, "TurnInfo")
    assert [word["word"] for word in end["words"]] == ["Number", "1.", "Number", "2."]


async def test_a_turn_that_is_forced_to_end_says_so_and_without_one_nothing_does() -> None:
    heard = await converse(flux(), [FORCE, TONE, FORCE, FORCE, TONE, CLOSE])
    ends = [info for info in of_type(heard, "TurnInfo") if info["event"] == "EndOfTurn"]
    assert [(end["turn_index"], end["trigger"]) for end in ends] == [(0, "manual"), (1, "model")]


async def test_a_threshold_of_one_leaves_the_end_to_the_client_or_the_time_out() -> None:
    long = s16le(silence(4.0))
    codec = flux(eot_threshold="1.0", eot_timeout_ms="3000")
    heard = await converse(codec, [TONE, GAP, TONE, FORCE, TONE, long, CLOSE])
    ends = [info for info in of_type(heard, "TurnInfo") if info["event"] == "EndOfTurn"]
    assert [(end["transcript"], end["trigger"]) for end in ends] == [("Number 1.", "manual"), ("Number 2.", "timeout")]


async def test_the_cuts_of_the_audio_change_nothing() -> None:
    audio = TONE + GAP + TONE + GAP

    async def results(cuts: list[int]) -> list[tuple[str, int, str]]:
        frames = [audio[cut] for cut in pieces(len(audio), cuts)]
        return without_updates(await converse(flux(), [*filter(None, frames), CLOSE]))

    whole = [turn for turn in await results([len(audio)]) if turn[0] == "EndOfTurn"]
    for cuts in ([1] * 99, [333] * 20, [32_001, 7, 1_999]):
        assert [turn for turn in await results(cuts) if turn[0] == "EndOfTurn"] == whole


async def test_a_failure_of_the_model_is_a_warning_and_ends_the_turn() -> None:
    def answer(job: Job) -> Outcome:
        failed = job.kind is JobKind.FINAL and job.segment_id == 1
        return JobFailed(ErrorCode.MODEL_ERROR, "the model failed") if failed else recognise(job)

    heard = await converse(flux(), [TONE, GAP, TONE, CLOSE], answer)
    assert [(each["code"], each["description"]) for each in of_type(heard, "Warning")] == [
        ("MODEL_ERROR", "the model failed")
    ]
    ends = [turn for turn in turns(heard) if turn[0] == "EndOfTurn"]
    assert ends == [("EndOfTurn", 0, ""), ("EndOfTurn", 1, "Number 2.")]


@pytest.mark.parametrize("frame", ["hello", "{}", '{"type":"Finalize"}', '{"type":"Configure","thresholds":1}'])
async def test_text_that_cannot_be_read_is_a_warning(frame: str) -> None:
    heard = await converse(flux(), [frame, TONE, CLOSE])
    assert [each["code"] for each in of_type(heard, "Warning")] == ["UNPARSABLE_CLIENT_MESSAGE"]
    assert turns(heard)[-1] == ("EndOfTurn", 0, "Number 1.")


async def test_configure_changes_thresholds_and_what_the_model_reads() -> None:
    told: list[bytes] = []

    def answer(job: Job) -> Outcome:
        told.append(job.options)
        return recognise(job)

    thresholds = {"eot_threshold": 1.0, "eot_timeout_ms": 2000}
    change = {"type": "Configure", "thresholds": thresholds, "keyterms": ["new"], "language_hints": ["de"]}
    frames = [json.dumps(change), TONE, GAP, TONE, FORCE, CLOSE]
    heard = await converse(flux("keyterm", "language"), frames, answer)
    [success] = of_type(heard, "ConfigureSuccess")
    assert (success["thresholds"], success["keyterms"]) == (thresholds, ["new"])
    assert set(told) == {b'{"keyterm":["new"],"language":"de"}'}
    assert [turn[2] for turn in turns(heard) if turn[0] == "EndOfTurn"] == ["Number 1."]


async def test_a_wrong_configure_changes_nothing_and_unread_key_terms_are_told() -> None:
    wrong = '{"type":"Configure","thresholds":{"eot_timeout_ms":1}}'
    heard = await converse(flux(), [wrong, '{"type":"Configure","keyterms":"new"}', CLOSE])
    [failure] = of_type(heard, "ConfigureFailure")
    assert failure["description"] == "eot_timeout_ms: expected a number from 500 to 60000, got 1"
    [success] = of_type(heard, "ConfigureSuccess")
    assert (success["keyterms"], success["thresholds"]) == ([], {"eot_threshold": 0.7, "eot_timeout_ms": 5000})


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"eot_threshold": "0.4"}, "eot_threshold"),
        ({"eot_threshold": "nan"}, "eot_threshold"),
        ({"eager_eot_threshold": "1"}, "eager_eot_threshold"),
        ({"eot_timeout_ms": "499"}, "eot_timeout_ms"),
        ({"eot_timeout_ms": "1e3"}, "eot_timeout_ms"),
        ({"redact": "numbers"}, "redact"),
        ({"encoding": "speex"}, "encoding"),
    ],
)
def test_a_wrong_parameter_is_refused_by_its_name(query: dict[str, str], named: str) -> None:
    with pytest.raises(BadRequest, match=f"^{named}: expected "):
        request(**query)


def test_parameters_have_their_effect_or_are_named() -> None:
    assert request().start.vad.redemption_time_ms == 600.0
    assert request(eot_timeout_ms="500").start.vad.redemption_time_ms == 500.0
    assert request(eot_threshold="1", eot_timeout_ms="60000").start.vad.redemption_time_ms == 10_000.0
    read = request(model="flux-general-en", eot_threshold="0.8", eager_eot_threshold="0.5", language_hint="de")
    assert read.ignored == ("model", "eager_eot_threshold", "eot_threshold", "language_hint")
    assert request("language", language_hint="de").start.options == b'{"language":"de"}'
    assert request("language", language_hint="de", eot_threshold="1.0").ignored == ()
    with pytest.raises(BadRequest, match=r"^eot_threshold: expected no parameter without effect"):
        request(refuse_ignored=True, model="flux-general-en", eot_threshold="0.8")


@given(frames=st.lists(st.binary(max_size=2_000).map(b"\0".__add__) | st.text(max_size=60).map(str.encode)))
def test_no_frames_of_a_client_break_the_codec_or_the_session(frames: list[bytes]) -> None:
    play_lines(flux("keyterm", channels="2"), b"\n".join(frames))


async def test_a_fault_ends_the_stream_with_an_error_and_the_code_of_the_service() -> None:
    async with serving(transcribing(), limits={"idle_timeout_s": 0.2}) as app, dialled(app, "/v2/listen") as socket:
        connected, error, closing = [await socket.receive() for _ in range(3)]
        assert connected.json()["type"] == "Connected"
        assert (error.json()["type"], error.json()["code"]) == ("Error", "IDLE_TIMEOUT")
        assert (closing.type, closing.data, closing.extra) == (aiohttp.WSMsgType.CLOSE, 1011, "NET-0001")


@pytest.mark.skipif(
    importlib.util.find_spec("deepgram") is None, reason="deepgram-sdk is not installed, which `make setup` does"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_sdk_hears_turns_and_its_models_say_the_same_strictly() -> None:
    from deepgram.listen.v2 import types

    change = {"type": "Configure", "thresholds": {"eot_threshold": 0.8}}
    async with serving(transcribing()) as app:
        options = {"model": "flux-general-en", "encoding": "linear16", "sample_rate": 16_000}
        async with client(app.url).listen.v2.connect(**options, eot_timeout_ms=500) as socket:

            async def send() -> None:
                await socket.send_media(TONE + GAP + TONE)
                await socket.send_force_end_turn()
                await socket.send_configure(change)
                await socket.send_close_stream()

            sending = asyncio.create_task(send())
            messages = [message async for message in socket]
            await sending
            assert socket._websocket.close_code == 1000
    events = [message.event for message in messages if message.type == "TurnInfo" and message.event != "Update"]
    assert events == ["StartOfTurn", "EndOfTurn"] * 2
    assert {message.type for message in messages} == {"Connected", "TurnInfo", "ConfigureSuccess"}
    frames = [TONE, GAP, "hello", json.dumps(change), '{"type":"Configure","thresholds":{"eot_threshold":9}}', CLOSE]
    for message in await converse(flux(), frames):
        model = getattr(types, f"ListenV2{message['type']}")
        assert not list(unknown_fields(model.model_validate(message, strict=True)))
