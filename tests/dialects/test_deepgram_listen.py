"""The codec of Deepgram's `/v1/listen` in front of a real session: what its clients send, and what they hear."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.protocols.mixer import Mixer
from streamer.session.actions import Job, JobFailed, JobKind, Outcome, Output
from streamer.session.events import Segment
from streamer.session.messages import Audio, KeepAlive, Stop
from streamer.session.settings import Limits
from streamer.testing import s16le, silence, tone
from tests.audio.cuts import pieces, sizes
from tests.connection.in_memory_server import turns
from tests.dialects.deepgram import finals, listen, of_type, texts
from tests.dialects.stage import GAP, TONE, converse, dialling, recognise
from tests.fuzz.text_dialects import play_lines

CLOSE = '{"type":"CloseStream"}'
FINALIZE = '{"type":"Finalize"}'

# The audio and its results --------------------------------------------------------------------------


async def test_each_utterance_has_a_final_that_ends_speech_and_metadata_is_last() -> None:
    heard = await converse(listen(), [TONE, GAP, TONE, GAP, CLOSE])
    assert texts(finals(heard)) == ["Number 1.", "Number 2."]
    assert [(final["speech_final"], final["from_finalize"]) for final in finals(heard)] == [(True, False)] * 2
    assert heard[-1] == {
        "type": "Metadata",
        "transaction_key": "deprecated",
        "request_id": "request-1",
        "sha256": hashlib.sha256((TONE + GAP) * 2).hexdigest(),
        "created": "2026-11-28T06:00:00.000Z",
        "duration": 5.0,
        "channels": 1,
    }


async def test_every_result_has_all_that_clients_read_without_a_default() -> None:
    heard = await converse(listen(interim_results="true"), [TONE, GAP, CLOSE])
    results = of_type(heard, "Results")
    assert {result["is_final"] for result in results} == {True, False}
    for result in results:
        assert result["channel_index"] == [0, 1]
        assert result["metadata"] == {
            "request_id": "request-1",
            "model_info": {"name": "scripted", "version": "1", "arch": "streamer"},
            "model_uuid": "uuid-1",
        }
        assert {"start", "duration", "is_final", "speech_final", "from_finalize"} <= result.keys()
        [alternative] = result["channel"]["alternatives"]
        first, last = alternative["words"]
        assert (first["word"], first["punctuated_word"], first["confidence"]) == ("number", "Number", 0.9)
        assert last["word"] == "1"
        assert first["start"] == result["start"]
        assert last["end"] == pytest.approx(result["start"] + result["duration"], abs=0.001)


async def test_interims_come_only_on_request_and_may_be_dropped_for_a_slow_client() -> None:
    heard = await converse(listen(), [TONE, GAP, CLOSE])
    assert of_type(heard, "Results") == finals(heard)
    codec = listen(interim_results="true")
    codec.begin()
    output = Output.of("so far").value
    for is_final in (False, True):
        [reply] = codec.encode(Segment(0, 1, 0, 16_000, is_final, output)) or []
        assert reply.is_replaceable is not is_final


async def test_the_cuts_of_the_audio_change_nothing() -> None:
    audio = TONE + GAP + TONE + GAP

    async def results(cuts: list[int]) -> list[dict[str, Any]]:
        frames = [audio[cut] for cut in pieces(len(audio), cuts)]
        heard = await converse(listen(vad_events="true"), [*filter(None, frames), CLOSE])
        return [message for message in heard if message["type"] != "Metadata"]

    whole = await results([len(audio)])
    assert len(whole) == 4
    for cuts in ([1] * 99, [333] * 20, [32_001, 7, 1_999, 40_000]):
        assert await results(cuts) == whole


async def test_speech_that_is_cut_for_its_length_is_final_and_goes_on() -> None:
    heard = await converse(listen(), [s16le(tone(440, 31.5)), GAP, CLOSE])
    assert [final["speech_final"] for final in finals(heard)] == [False, True]


async def test_without_endpointing_silence_never_ends_speech_by_its_name() -> None:
    heard = await converse(listen(endpointing="false"), [TONE, GAP, TONE, CLOSE])
    assert [final["speech_final"] for final in finals(heard)] == [False, True]  # the close ends the last one


async def test_speech_starts_are_sent_only_on_request() -> None:
    assert not of_type(await converse(listen(), [TONE, GAP, CLOSE]), "SpeechStarted")
    heard = await converse(listen(vad_events="true"), [GAP, TONE, GAP, CLOSE])
    assert of_type(heard, "SpeechStarted") == [{"type": "SpeechStarted", "channel": [0, 1], "timestamp": 0.872}]


async def test_an_empty_binary_message_closes_the_stream() -> None:
    heard = await converse(listen(), [TONE, b""])
    assert [message["type"] for message in heard] == ["Results", "Metadata"]


# Several channels -----------------------------------------------------------------------------------


def stereo() -> bytes:
    """Speech on the left in the first second, on the right in the third."""
    left = np.concatenate([tone(440, 1.0), silence(3.0)])
    right = np.concatenate([silence(2.0), tone(440, 1.0), silence(1.0)])
    return s16le(np.stack([left, right], axis=1))


async def test_multichannel_results_name_their_channel() -> None:
    heard = await converse(listen(channels="2", multichannel="true"), [stereo(), CLOSE])
    assert [final["channel_index"] for final in finals(heard)] == [[0, 2], [1, 2]]
    assert of_type(heard, "Metadata")[0]["channels"] == 2


async def test_channels_are_mixed_without_multichannel() -> None:
    heard = await converse(listen(channels="2"), [stereo(), CLOSE])
    assert [final["channel_index"] for final in finals(heard)] == [[0, 1], [0, 1]]
    assert of_type(heard, "Metadata")[0]["duration"] == 4.0


@given(lengths=sizes)
def test_mixing_does_not_depend_on_the_cuts(lengths: list[int]) -> None:
    audio = bytes(range(256)) * 12
    form = AudioFormat(Encoding.PCM_S16LE, 16_000, 3)
    mixer = Mixer(form)
    assert b"".join(mixer.push(audio[cut]) for cut in pieces(len(audio), lengths)) == Mixer(form).push(audio)


# Finalize -------------------------------------------------------------------------------------------


async def test_finalize_ends_the_running_utterance_and_its_final_says_so() -> None:
    heard = await converse(listen(), [TONE, FINALIZE, TONE, GAP, CLOSE])
    assert [(final["from_finalize"], final["is_final"]) for final in finals(heard)] == [(True, True), (False, True)]
    assert texts(finals(heard)) == ["Number 1.", "Number 2."]


async def test_finalize_is_answered_when_nothing_was_pending() -> None:
    heard = await converse(listen(), [TONE, GAP, FINALIZE, FINALIZE, CLOSE])
    assert texts(finals(heard)) == ["Number 1.", "", ""]
    assert [final["from_finalize"] for final in finals(heard)] == [False, True, True]
    assert finals(heard)[1]["channel"]["alternatives"] == [{"transcript": "", "confidence": 0.0, "words": []}]


async def test_finalize_of_one_channel_is_answered_on_this_one() -> None:
    codec = listen(channels="2", multichannel="true")
    heard = await converse(codec, [s16le(np.zeros((16_000, 2))), '{"type":"Finalize","channel":1}', FINALIZE, CLOSE])
    assert [final["channel_index"] for final in finals(heard)] == [[1, 2], [0, 2], [1, 2]]
    assert all(final["from_finalize"] for final in finals(heard))


async def test_finalize_of_a_channel_that_is_not_there_is_a_schema_error() -> None:
    heard = await converse(listen(), ['{"type":"Finalize","channel":1}', CLOSE])
    assert heard[0]["variant"] == "SchemaError"
    assert "less than 1" in heard[0]["description"]


# UtteranceEnd ---------------------------------------------------------------------------------------

ENDS = {"interim_results": "true", "utterance_end_ms": "1000"}


async def test_an_utterance_end_follows_each_gap_once_after_the_final() -> None:
    more = s16le(silence(3.0))
    heard = await converse(listen(**ENDS), [TONE, GAP, more, TONE, GAP, more, CLOSE])
    kinds = [message["type"] for message in heard if message.get("is_final", True)]
    assert kinds == ["Results", "UtteranceEnd", "Results", "UtteranceEnd", "Metadata"]
    for final, end in zip(finals(heard), of_type(heard, "UtteranceEnd"), strict=True):
        assert end["channel"] == [0, 1]
        assert end["last_word_end"] == pytest.approx(final["start"] + final["duration"], abs=0.001)


async def test_an_utterance_end_waits_for_the_clock_of_the_audio() -> None:
    heard = await converse(listen(**ENDS), [TONE, s16le(silence(0.9)), CLOSE])
    assert not of_type(heard, "UtteranceEnd")


async def test_an_utterance_end_waits_for_a_slow_model() -> None:
    async with dialling(listen(**ENDS)) as (stage, client):
        with stage.held():
            for frame in (TONE, GAP, GAP):
                await client.send(frame)
                await turns()
        await client.send(CLOSE)
        heard = []
        while (frame := await client.receive()) is not None:
            heard.append(json.loads(frame)["type"])
    assert heard == ["Results", "UtteranceEnd", "Metadata"]


async def test_an_utterance_end_is_sent_for_each_gap_however_slow_the_model_is() -> None:
    async with dialling(listen(**ENDS)) as (stage, client):
        with stage.held():
            for frame in (TONE, GAP, TONE, s16le(silence(0.7)), TONE, GAP):
                await client.send(frame)
                await turns()
        await client.send(CLOSE)
        heard = []
        while (frame := await client.receive()) is not None:
            heard.append(json.loads(frame)["type"])
    assert heard == ["Results", "UtteranceEnd", "Results", "Results", "UtteranceEnd", "Metadata"]


async def test_noise_without_words_has_no_utterance_end() -> None:
    heard = await converse(listen(**ENDS), [TONE, GAP, GAP, CLOSE], lambda _: Output.of({"text": ""}))
    assert [message["type"] for message in heard if message.get("is_final", True)] == ["Results", "Metadata"]


# Words ----------------------------------------------------------------------------------------------


async def test_words_of_the_model_keep_their_times_speakers_and_languages() -> None:
    words = [
        {"word": "Sí,", "start_time": 0.1, "end_time": 0.2, "confidence": 0.5, "speaker": "b", "language": "es"},
        {"word": "don't", "start_time": 0.3, "end_time": 0.4, "speaker": "a", "language": "en"},
        {"word": "—", "start_time": 0.4, "end_time": 0.5, "speaker": "b", "language": "en"},
        {"word": "3", "start_time": 0.6, "end_time": 0.7, "spoken": "three"},
    ]
    answer = Output.of({"text": "Sí, don't — 3", "words": words})  # type: ignore[dict-item]
    heard = await converse(listen(diarize="true", language="multi"), [TONE, CLOSE], lambda _: answer)
    [alternative] = finals(heard)[0]["channel"]["alternatives"]
    assert alternative["languages"] == ["en", "es"]
    assert alternative["confidence"] == 1.0  # the model gives none
    assert [list(word.values()) for word in alternative["words"]] == [
        ["sí", 0.1, 0.2, 0.5, "Sí,", "es", 0],
        ["don't", 0.3, 0.4, 1.0, "don't", "en", 1],
        ["—", 0.4, 0.5, 1.0, "—", "en", 0],
        ["three", 0.6, 0.7, 1.0, "3"],
    ]
    heard = await converse(listen(), [TONE, CLOSE], lambda _: answer)
    for word in finals(heard)[0]["channel"]["alternatives"][0]["words"]:
        assert not {"speaker", "language"} & word.keys()


async def test_text_alone_is_a_transcript_with_estimated_times() -> None:
    heard = await converse(listen(), [TONE, CLOSE], lambda _: Output.of(" Two words "))
    [final] = finals(heard)
    assert texts([final]) == ["Two words"]
    assert [word["punctuated_word"] for word in final["channel"]["alternatives"][0]["words"]] == ["Two", "words"]


# Failures -------------------------------------------------------------------------------------------


def failing(job: Job) -> Outcome:
    return JobFailed(ErrorCode.MODEL_ERROR, "the model failed") if job.segment_id == 1 else recognise(job)


def strange(job: Job) -> Outcome:
    return Output.of({"count": 1}) if job.segment_id == 1 else recognise(job)


@pytest.mark.parametrize("answer", [failing, strange])
async def test_a_range_without_a_result_is_an_error_and_an_empty_final(answer: Any) -> None:
    heard = await converse(listen(interim_results="true"), [TONE, GAP, TONE, GAP, CLOSE], answer)
    [error] = of_type(heard, "Error")
    assert error["variant"] == "ModelError"
    assert texts(finals(heard)) == ["", "Number 2."]
    assert finals(heard)[0]["duration"] > 0.9


async def test_a_failed_final_does_not_leave_finalize_unanswered() -> None:
    heard = await converse(listen(), [TONE, FINALIZE, CLOSE], failing)
    assert [final["from_finalize"] for final in finals(heard)] == [False, True]


# Messages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        "hello",
        "[]",
        "{}",
        '{"type":"Reticulate"}',
        '{"type":"Finalize","channel":-1}',
        '{"type":"Configure","keyterms":1}',
        "{" * 200,
    ],
)
async def test_text_that_cannot_be_read_is_a_schema_error_and_ends_nothing(frame: str) -> None:
    heard = await converse(listen(), [frame, TONE, CLOSE])
    assert [message["type"] for message in heard] == ["Error", "Results", "Metadata"]
    assert (heard[0]["variant"], heard[0]["message"]) == ("SchemaError", frame)


async def test_a_message_above_the_limit_ends_the_stream() -> None:
    heard = await converse(listen(), [json.dumps({"type": "Finalize", "more": "x" * 20_000})])
    assert [(message["type"], message["variant"]) for message in heard] == [("Error", "MessageTooBig")]


async def test_keep_alive_keeps_an_idle_stream_open() -> None:
    async with dialling(listen(), limits=Limits(idle_timeout_s=10.0)) as (stage, client):
        for _ in range(3):
            stage.clock.advance(9.0)
            await client.send('{"type":"KeepAlive"}')
            await turns()
        stage.clock.advance(10.0)
        await turns()
        frame = await client.receive()
        assert json.loads(frame or "")["variant"] == "IdleTimeout"


async def test_configure_replaces_key_terms_of_a_model_that_reads_them() -> None:
    told: list[bytes] = []

    def answer(job: Job) -> Outcome:
        if job.kind is JobKind.FINAL:
            told.append(job.options)
        return recognise(job)

    configure = '{"type":"Configure","keyterms":["new"]}'
    codec = listen("keyterm", keyterm="old")
    heard = await converse(codec, [TONE, GAP, configure, TONE, CLOSE], answer)
    assert of_type(heard, "ConfigureSuccess") == [
        {"type": "ConfigureSuccess", "request_id": "request-1", "keyterms": ["new"]}
    ]
    assert [json.loads(options) for options in told] == [{"keyterm": ["old"]}, {"keyterm": ["new"]}]


async def test_configure_is_refused_for_a_model_without_key_terms_and_features_have_no_effect() -> None:
    frames = ['{"type":"Configure","keyterms":[]}', '{"type":"Configure","features":{"numerals":true}}', CLOSE]
    failure, success, _ = await converse(listen(), frames)
    assert (failure["type"], failure["code"]) == ("ConfigureFailure", "CONFIGURE_KEYTERMS_NOT_SUPPORTED")
    assert success == {"type": "ConfigureSuccess", "request_id": "request-1"}


async def test_the_answer_to_a_configure_follows_that_of_the_finalize_before_it() -> None:
    change = '{"type":"Configure","keyterms":["new"]}'
    for options, name in ((("keyterm",), "ConfigureSuccess"), ((), "ConfigureFailure")):
        async with dialling(listen(*options)) as (stage, client):
            stage.scripted.is_holding = True
            for frame in (TONE, FINALIZE, change, FINALIZE, '{"type":"Configure"}'):
                await client.send(frame)
                await turns()
            stage.scripted.is_holding = False
            stage.scripted.release_all()
            await client.send(CLOSE)
            heard = []
            while (frame := await client.receive()) is not None:
                heard.append(json.loads(frame))
        assert [each["type"] for each in heard] == ["Results", name, "Results", "ConfigureSuccess", "Metadata"]
        assert [each["from_finalize"] for each in of_type(heard, "Results")] == [True, True]


# Anything -------------------------------------------------------------------------------------------

_words = st.sampled_from(["Finalize", "CloseStream", "KeepAlive", "Configure", "Start", ""])
_json = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), st.lists)
_objects = st.builds(
    lambda name, more: json.dumps({"type": name, **more}),
    _words,
    st.dictionaries(st.sampled_from(["channel", "keyterms", "features", "x"]), _json, max_size=3),
)


@settings(max_examples=200)
@given(
    frames=st.lists(st.binary(max_size=2_000).map(b"\0".__add__) | (st.text(max_size=60) | _objects).map(str.encode))
)
def test_no_frames_of_a_client_break_the_codec_or_the_session(frames: list[bytes]) -> None:
    play_lines(listen("keyterm", interim_results="true", vad_events="true", channels="2"), b"\n".join(frames))


def test_plain_messages_need_no_list() -> None:
    codec = listen()
    assert codec.decode(b"\0\0") == Audio(b"\0\0")
    assert codec.decode('{"type":"KeepAlive"}') == KeepAlive()
    assert codec.decode(CLOSE) == Stop()
