"""Rows 8 to 18 of the fault table over every other service's protocol, each answered as that service answers.

A healthy stream of the same protocol runs beside each fault and hears what it hears alone, and nothing is left behind:
no session, task, file or byte (`fault_stage`). Rows 15 and 16 are in `test_bad_formats.py`.
"""

from __future__ import annotations

import base64
import struct

import numpy as np
import pytest

from tests.dialects.fault_peers import TwilioPeer, WyomingPeer
from tests.dialects.fault_stage import Answer, ends, fault_stage, over, stays
from tests.dialects.recogniser import SENTENCES, sentence, silence

BASE64 = base64.b64encode(bytes(range(250))).decode()

# Row 8: text where audio belongs, and audio where text belongs -------------------------------------------


@over(
    deepgram=stays("SchemaError"),
    flux=stays("UNPARSABLE_CLIENT_MESSAGE"),
    realtime=stays("invalid_json"),
    vosk=ends(1011),
    wyoming=ends("end", "bad_request"),
    assemblyai=ends(4100, "4100"),
    speechmatics=ends(1003, "invalid_message"),
    twilio=ends(1008, "bad_request"),
    audiosocket=ends("hangup"),
)
async def test_text_where_audio_belongs_is_told(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside():
        for text in ("hello", BASE64, "\0"):
            if name == "audiosocket" and text == "\0":
                continue  # it begins a frame
            async with stage.connected() as peer:
                await peer.start()
                await peer.text(text)
                await stage.answers(peer, answer)


@over(realtime=stays("invalid_value"), twilio=ends(1003, "wrong_frame_type"))
async def test_binary_where_text_belongs_is_told(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside():
        for data in (b"", b"RIFF", silence(0.1), b'{"event_id":"\xff"}', b'{"event":"stop"}'):
            async with stage.connected() as peer:
                await peer.start()
                await peer.socket.send_bytes(data)
                await stage.answers(peer, answer)


# Row 9: audio before the start ---------------------------------------------------------------------------


@over(
    deepgram=stays(),  # the request is the start, as in flux, realtime and assemblyai
    flux=stays(),
    realtime=stays(),
    vosk=stays(),  # at the default rate
    wyoming=stays(),  # a chunk says its format
    assemblyai=stays(),
    speechmatics=ends(1003, "protocol_error"),
    twilio=ends(1008),
    audiosocket=ends("hangup"),
)
async def test_audio_before_the_start_is_taken_if_its_format_is_known(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside(), stage.connected() as peer:
        if answer.close is not None:
            await peer.audio(silence(0.1))
            peer.is_started = False
        await stage.answers(peer, answer)


# Row 10: a second start ----------------------------------------------------------------------------------

SECOND_START = {
    "deepgram": '{"type":"Start","encoding":"linear16"}',
    "flux": '{"type":"Start","encoding":"linear16"}',
    "realtime": '{"type":"session.update","session":{"type":"transcription"}}',
    "assemblyai": '{"type":"Begin"}',
}
"""Of protocols that have no start: a message that looks like one."""


@over(
    deepgram=stays("SchemaError"),
    flux=stays("UNPARSABLE_CLIENT_MESSAGE"),
    realtime=stays(),
    vosk=stays(),
    wyoming=stays(),
    assemblyai=ends(4101, "4101"),
    speechmatics=ends(1003, "protocol_error"),
    twilio=ends(1008, "bad_state"),
    audiosocket=stays(),
)
async def test_a_second_start_is_refused_or_changes_nothing(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside(), stage.connected() as peer:
        await peer.start()
        await (peer.text(SECOND_START[name]) if name in SECOND_START else peer.start())
        await stage.answers(peer, answer)


async def test_a_second_start_of_wyoming_begins_the_command_again() -> None:
    async with fault_stage("wyoming") as stage, stage.beside(), stage.connected() as peer:
        await peer.start()
        await peer.speak(silence(0.3) + sentence(1))
        await peer.start()
        await stage.still_works(peer, stays())


# Row 11: an end before the start, and a second end -------------------------------------------------------


@over(
    deepgram=ends(1000),
    flux=ends(1000),
    vosk=ends(1000),
    wyoming=stays(),  # an empty transcript, and the connection stays
    assemblyai=ends(1000),
    speechmatics=ends(1003, "protocol_error"),
    twilio=ends(1000),
    audiosocket=ends("hangup"),
)
async def test_an_end_before_the_start_ends_a_connection_cleanly_or_is_out_of_order(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside(), stage.connected() as peer:
        await peer.stop()
        await stage.answers(peer, answer)


async def test_a_commit_of_nothing_is_an_error_of_the_realtime_api_and_its_session_goes_on() -> None:
    async with fault_stage("realtime") as stage, stage.beside(), stage.connected() as peer:
        for _ in range(2):
            await peer.text('{"type":"input_audio_buffer.commit"}')
        empty = "input_audio_buffer_commit_empty"
        await stage.answers(peer, stays(empty, empty))


@over(**dict.fromkeys(("deepgram", "flux", "vosk", "wyoming", "assemblyai", "speechmatics", "twilio", "audiosocket")))
async def test_a_second_end_changes_nothing(name: str, answer: None) -> None:
    async with fault_stage(name) as stage, stage.beside(), stage.connected() as peer:
        await peer.start()
        await peer.speak(silence(0.3, peer.rate) + sentence(2, rate=peer.rate))
        await peer.stop()
        await (peer.send("audio-stop", {}) if isinstance(peer, WyomingPeer) else peer.stop())
        heard = await peer.rest()
        assert (heard.finals, heard.errors, heard.close) == ([SENTENCES[1]], [], peer.clean)


@over(**dict.fromkeys(("deepgram", "flux", "vosk", "assemblyai", "speechmatics", "twilio", "audiosocket")))
async def test_audio_after_the_end_is_ignored(name: str, answer: None) -> None:
    async with fault_stage(name) as stage, stage.beside(), stage.connected() as peer:
        await peer.start()
        await peer.speak(silence(0.3, peer.rate) + sentence(2, rate=peer.rate))
        await peer.stop()
        await peer.audio(sentence(1, rate=peer.rate)[:3_200])
        heard = await peer.rest()
        assert (heard.finals, heard.errors, heard.close) == ([SENTENCES[1]], [], peer.clean)


# Row 13: bytes cut anywhere ------------------------------------------------------------------------------

EVERY = dict.fromkeys(
    ("deepgram", "flux", "realtime", "vosk", "wyoming", "assemblyai", "speechmatics", "twilio", "audiosocket"), stays()
)


@over(**EVERY)
async def test_bytes_one_at_a_time_and_odd_messages_are_the_same_audio(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside(), stage.connected() as peer:
        audio = silence(0.3, peer.rate) + sentence(2, rate=peer.rate)
        await peer.start()
        await peer.crumbs(audio[:400])
        await peer.speak(audio[400:], 3_202 if isinstance(peer, TwilioPeer) else 3_201)  # mu-law has no half samples
        await peer.speak(silence(1.5, peer.rate))
        await peer.audio(b"\0")  # half a sample at the end
        await peer.stop()
        heard = await peer.rest()
        assert (heard.finals, heard.errors, heard.close) == ([SENTENCES[1]], [], peer.clean)


@over(wyoming=stays(), audiosocket=stays())
async def test_a_message_in_pieces_of_one_byte_is_one_message(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside(), stage.connected() as peer:
        whole: list[bytes] = []
        send, peer.raw = peer.raw, lambda data: _kept(whole, data)
        await peer.start()
        await peer.audio(silence(0.01))
        for value in b"".join(whole):
            await send(bytes((value,)))
        peer.raw = send
        await stage.answers(peer, answer)


async def _kept(whole: list[bytes], data: bytes) -> None:
    whole.append(data)


# Row 14: samples that are no audio -----------------------------------------------------------------------

NOISE = np.random.default_rng(14).integers(0, 256, 20_000, np.uint8).tobytes()


@over(**EVERY)
async def test_extreme_samples_harm_nothing(name: str, answer: Answer) -> None:
    """Every value of an integer is a sample."""
    async with fault_stage(name) as stage, stage.beside(), stage.connected() as peer:
        extremes = struct.pack("<hh", -32_768, 32_767) * 4_000
        peer.turns = 2
        await peer.start()
        for audio in (extremes, NOISE, b"\xff" * 8_000):
            await peer.speak(audio)
        await peer.speak(silence(1.5, peer.rate) + sentence(2, rate=peer.rate) + silence(1.5, peer.rate))
        await peer.stop()
        heard = await peer.rest()
        assert " ".join(heard.finals) == " ".join((SENTENCES[2], SENTENCES[1]))
        assert (heard.errors, heard.close) == ([], peer.clean)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 1e-42])
@pytest.mark.parametrize("name", ["deepgram", "flux", "speechmatics"])
async def test_floats_that_are_no_audio_are_silenced_or_clamped(name: str, value: float) -> None:
    """The protocols that take floats."""
    async with fault_stage(name) as stage, stage.beside():
        options = {} if name == "speechmatics" else {"encoding": "linear32"}
        async with stage.connected(**options) as peer:
            if name == "speechmatics":
                await peer.text(peer.first(encoding="pcm_f32le"))
            await peer.speak(struct.pack("<f", value) * 8_000)
            for audio in (silence(1.5), sentence(2), silence(1.5)):
                await peer.speak((np.frombuffer(audio, "<i2") / 32_768).astype("<f4").tobytes())
            await peer.stop()
            heard = await peer.rest()
            assert heard.finals[-1] == SENTENCES[1]
            assert (heard.errors, heard.close) == ([], peer.clean)


# Row 17: hostile JSON ------------------------------------------------------------------------------------

NOT_JSON = ("", "{", '{"type"', "nul\0l", "{'type':1}", "\ufeff{}")
NO_MESSAGE = (
    "[]",
    "17",
    "null",
    '"x"',
    "{}",
    '{"type":null,"message":null,"event":null}',
    '{"type":1e400,"message":1e400,"event":1e400}',
    '{"type":9,"message":9,"event":9}'.replace("9", "9" * 1_000),
    "[" * 4_000,
)
UNKNOWN = '{"type":"begin","message":"begin","event":"begin"}'


@over(
    deepgram=(stays("SchemaError"), stays("SchemaError")),
    flux=(stays("UNPARSABLE_CLIENT_MESSAGE"), stays("UNPARSABLE_CLIENT_MESSAGE")),
    realtime=(stays("invalid_json"), stays("invalid_value")),
    vosk=(ends(1011), ends(1011)),
    wyoming=(ends("end", "bad_request"), ends("end", "bad_request")),
    assemblyai=(ends(4100, "4100"), ends(4101, "4101")),
    speechmatics=(ends(1003, "invalid_message"), ends(1003, "invalid_message")),
    twilio=(ends(1008, "bad_request"), ends(1008, "bad_request")),
)
async def test_json_that_is_not_of_the_protocol_is_told(name: str, answer: tuple[Answer, Answer]) -> None:
    async with fault_stage(name) as stage, stage.beside():
        for text in (*NOT_JSON, *NO_MESSAGE):
            async with stage.connected() as peer:
                await peer.start()
                await peer.text(text)
                await stage.answers(peer, answer[text in NO_MESSAGE])


@over(
    deepgram=stays("SchemaError"),
    flux=stays("UNPARSABLE_CLIENT_MESSAGE"),
    realtime=stays("invalid_value"),
    vosk=ends(1011),
    wyoming=stays(),  # events of an unknown type are ignored, as the protocol asks
    assemblyai=ends(4101, "4101"),
    speechmatics=ends(1003, "invalid_message"),
    twilio=ends(1008, "bad_request"),
)
async def test_a_message_of_an_unknown_type_is_told_or_ignored(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside(), stage.connected() as peer:
        await peer.start()
        await peer.text(UNKNOWN)
        await stage.answers(peer, answer)


@over(
    deepgram=ends(1009, "MessageTooBig"),
    flux=ends(1009, "MESSAGE_TOO_BIG"),
    realtime=stays("invalid_json"),  # an event with audio may be as long
    vosk=ends(1009),
    wyoming=ends("end", "message_too_big"),
    assemblyai=ends(3007, "3007"),
    speechmatics=ends(1009, "invalid_message"),
    twilio=ends(1009, "message_too_big"),
)
async def test_json_a_hundred_thousand_levels_deep_is_too_big_or_not_json(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside(), stage.connected() as peer:
        await peer.start()
        await peer.text('{"type":' * 100_000)
        await stage.answers(peer, answer)


@over(
    deepgram=stays("SchemaError"),
    flux=stays("UNPARSABLE_CLIENT_MESSAGE"),
    realtime=stays("invalid_json"),
    vosk=ends(1011),
    wyoming=ends("end", "bad_request"),
    assemblyai=ends(4100, "4100"),
    speechmatics=ends(1003, "invalid_message"),
    twilio=ends(1008, "bad_request"),
)
async def test_half_of_a_surrogate_pair_is_not_json(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside(), stage.connected() as peer:
        await peer.start()
        await peer.text('{"type":"\\ud800","message":"\\ud800","event":"\\ud800","config":"\\ud800"}')
        await stage.answers(peer, answer)


TWICE = {
    "deepgram": '{"type":"Finalize","channel":7,"channel":0}',
    "flux": '{"type":"Configure","thresholds":{"eot_timeout_ms":-1,"eot_timeout_ms":1000}}',
    "realtime": '{"type":"session.update","session":{"type":"transcription","audio":{"input":{"format":'
    '{"type":"audio/pcm","rate":1,"rate":24000}}}}}',
    "vosk": '{"config":{"sample_rate":1,"sample_rate":8000}}',
    "wyoming": '{"type":"audio-start","data":{"rate":1,"rate":16000,"width":2,"channels":1}}',
    "assemblyai": '{"type":"UpdateConfiguration","max_turn_silence":-4,"max_turn_silence":500}',
    "speechmatics": '{"message":"SetRecognitionConfig","transcription_config":{"language":7,"language":"en"}}',
    "twilio": '{"event":"media","media":{"payload":"","track":"outbound","track":"inbound"}}',
}
ONCE = {
    "deepgram": '{"type":"Finalize","channel":7}',
    "flux": '{"type":"Configure","thresholds":{"eot_timeout_ms":-1}}',
    "realtime": '{"type":"session.update","session":{"type":"transcription","audio":{"input":{"format":'
    '{"type":"audio/pcm","rate":1}}}}}',
    "vosk": '{"config":{"sample_rate":1}}',
    "wyoming": '{"type":"audio-start","data":{"rate":1,"width":2,"channels":1}}',
    "assemblyai": '{"type":"UpdateConfiguration","max_turn_silence":-4}',
    "speechmatics": '{"message":"SetRecognitionConfig","transcription_config":{"language":7}}',
    "twilio": '{"event":"media","media":{"payload":"","track":"outbound"}}',
}
"""The same with the first value alone, which is wrong."""


@over(
    deepgram=stays("SchemaError"),
    flux=stays("INVALID_CONFIGURATION"),
    realtime=stays("invalid_format"),
    vosk=ends(1011),
    wyoming=ends("end", "invalid_format"),
    assemblyai=ends(3006, "3006"),
    speechmatics=ends(1003, "invalid_config"),
    twilio=ends(1008, "bad_state"),
)
async def test_of_a_key_that_comes_twice_the_last_counts(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside():
        for text, expected in ((TWICE[name], stays()), (ONCE[name], answer)):
            async with stage.connected() as peer:
                await peer.start()
                await peer.text(text)
                await stage.answers(peer, expected)


# Row 18: text that is no text ----------------------------------------------------------------------------

NO_UTF8 = (b"\xff\xfe", b'{"type":"\xc3"}', b"\xed\xa0\x80")


@over(
    deepgram=ends(1007),
    flux=ends(1007),
    realtime=ends(1007),
    vosk=ends(1007),
    assemblyai=ends(1007),
    speechmatics=ends(1007),
    twilio=ends(1007),
)
async def test_text_that_is_not_utf_8_is_closed_with_1007(name: str, answer: Answer) -> None:
    async with fault_stage(name) as stage, stage.beside():
        for data in NO_UTF8:
            async with stage.connected() as peer:
                await peer.start()
                await peer.raw(data)
                heard = await peer.rest()
                assert (heard.finals, heard.close) == ([], answer.close)


async def test_a_line_or_data_of_wyoming_that_is_not_utf_8_is_an_error() -> None:
    lines = (b"\xff\xfe\n", b'{"type":"\xc3"}\n', b'{"type":"ping","data_length":9}\n{"a":"\xed"}')
    async with fault_stage("wyoming") as stage, stage.beside():
        for data in lines:
            for is_started in (False, True):
                async with stage.connected() as peer:
                    await (peer.start() if is_started else peer.send("ping", {}))
                    await peer.raw(data)
                    await stage.answers(peer, ends("end", "bad_request"))


async def test_a_key_of_audiosocket_that_is_no_character_is_told_as_one() -> None:
    async with fault_stage("audiosocket") as stage, stage.beside(), stage.connected() as peer:
        await peer.start()
        await peer.audio(silence(0.1))
        for key in (b"\xff", b"", b"12345"):
            await peer.send(0x03, key)
        await stage.answers(peer, stays())
        events = await stage.feed.call(peer.call_id)
        assert [event["digit"] for event in events if event["type"] == "dtmf"] == ["\ufffd", "", "1"]
