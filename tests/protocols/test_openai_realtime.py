"""The Realtime API's codec joined to a real session: turns, commits, deltas, settings and errors."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import ErrorCode
from streamer.protocols.openai.file_request import TurnFloor
from streamer.session.actions import Job, JobFailed, JobKind, Outcome, Output
from streamer.session.settings import Limits
from tests.protocols.realtime_pair import EASY, RATE, RealtimePair, audio_of, sentence

TWO = audio_of(0.5, 2.0, 1.0, 1.5, 1.0)
"""Two utterances."""


def test_the_server_greets_with_the_whole_session() -> None:
    pair = RealtimePair()
    [greeting] = pair.events
    assert greeting["type"] == "session.created"
    assert greeting["session"]["type"] == "transcription"
    assert greeting["session"]["audio"]["input"] == {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "transcription": {"model": "scripted"},
        "noise_reduction": None,
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
        },
    }


def test_a_turn_begins_ends_becomes_an_item_and_is_completed() -> None:
    pair = RealtimePair()
    pair.append(TWO)
    first = pair.of("speech_started")[0]["item_id"]
    kinds = [event["type"].rpartition(".")[2] for event in pair.events if _item_of(event) == first]
    assert [kind for kind in kinds if kind != "delta"] == [
        *("speech_started", "speech_stopped", "committed", "added", "done", "completed")
    ]
    assert kinds.index("delta") < kinds.index("speech_stopped")
    assert kinds[-2:] == ["delta", "completed"]
    assert pair.transcripts == ["Word1 word2 word3 word4.", "Word1 word2 word3."]
    assert pair.errors == []


def _item_of(event: dict[str, object]) -> object:
    item = event.get("item")
    return item["id"] if isinstance(item, dict) else event.get("item_id")


def test_items_form_a_chain() -> None:
    pair = RealtimePair()
    pair.append(TWO)
    committed = pair.of("committed")
    assert [event["previous_item_id"] for event in committed] == [None, committed[0]["item_id"]]
    assert len({event["event_id"] for event in pair.events}) == len(pair.events)


def test_times_are_milliseconds_of_the_audio_and_usage_is_seconds_of_speech() -> None:
    pair = RealtimePair()
    pair.append(TWO)
    started, stopped = pair.of("speech_started")[0], pair.of("speech_stopped")[0]
    assert started["audio_start_ms"] == pytest.approx(200, abs=40)
    assert stopped["audio_end_ms"] == pytest.approx(2_500, abs=40)
    seconds = (stopped["audio_end_ms"] - started["audio_start_ms"]) / 1000
    assert pair.of("completed")[0]["usage"] == {"type": "duration", "seconds": pytest.approx(seconds, abs=0.001)}


def test_a_client_that_appends_the_deltas_has_the_transcript() -> None:
    pair = RealtimePair()
    pair.append(TWO)
    for event in pair.of("completed"):
        assert pair.deltas(event["item_id"]) == event["transcript"]
    assert len(pair.of("delta")) > 3


def test_a_final_that_contradicts_the_deltas_adds_none() -> None:
    def changes_its_mind(job: Job) -> Outcome:
        return Output.of({"text": "Quite another sentence." if job.kind is JobKind.FINAL else "One two three"})

    pair = RealtimePair(changes_its_mind)
    pair.append(TWO)
    event = pair.of("completed")[0]
    assert event["transcript"] == "Quite another sentence."
    assert pair.deltas(event["item_id"]) == "One two three"


def test_a_full_stop_that_interims_lack_is_appended() -> None:
    def without_stop(job: Job) -> Outcome:
        return Output.of({"text": "Yes. no!" if job.kind is JobKind.FINAL else "yes"})

    pair = RealtimePair(without_stop)
    pair.append(TWO)
    assert pair.deltas(pair.of("completed")[0]["item_id"]) == "yes no!"
    pair = RealtimePair(lambda job: Output.of({"text": "Yes." if job.kind is JobKind.FINAL else "Yes"}))
    pair.append(TWO)
    assert pair.deltas(pair.of("completed")[0]["item_id"]) == "Yes."


def test_the_stable_part_that_a_model_tells_is_appended_at_once() -> None:
    def tells(job: Job) -> Outcome:
        return Output.of({"text": "one two three", "stable": len("one two")})

    pair = RealtimePair(tells)
    pair.append(TWO)
    assert [event["delta"] for event in pair.of("delta")][:2] == ["one two", " three"]


def test_a_result_that_is_no_transcript_fails_its_item_only() -> None:
    pair = RealtimePair(lambda job: Output.of({"count": 1}))
    pair.append(TWO)
    assert [event["error"]["code"] for event in pair.of("failed")] == ["model_error"] * 2
    assert pair.of("completed") == pair.errors == []


def test_a_segment_that_fails_fails_its_item_and_the_next_one_goes_on() -> None:
    def fails_first(job: Job) -> Outcome:
        first = job.kind is JobKind.FINAL and job.segment_id == 1
        return JobFailed(ErrorCode.MODEL_ERROR, "the model has failed") if first else sentence(job)

    pair = RealtimePair(fails_first)
    pair.append(TWO)
    [failed], [completed] = pair.of("failed"), pair.of("completed")
    assert failed["item_id"] == pair.of("committed")[0]["item_id"]
    assert failed["error"] == {
        "message": "the model has failed",
        "type": "server_error",
        "code": "model_error",
        "param": None,
    }
    assert completed["item_id"] == pair.of("committed")[1]["item_id"]


# Turns of the client ----------------------------------------------------------------------------


def test_one_commit_is_one_item_whatever_was_said_in_it() -> None:
    pair = RealtimePair()
    pair.update(turn_detection=None)
    pair.append(TWO)
    assert pair.of("speech_started") == pair.of("committed") == []
    pair.commit()
    [committed], [completed] = pair.of("committed"), pair.of("completed")
    assert completed["item_id"] == committed["item_id"] == pair.of("delta")[0]["item_id"]
    assert completed["transcript"] == "Word1 word2 word3 word4 word5. Word1 word2 word3 word4."
    assert pair.deltas(completed["item_id"]) == completed["transcript"]


def test_a_commit_is_answered_before_its_results() -> None:
    pair = RealtimePair()
    pair.update(turn_detection=None)
    pair.held = True
    pair.append(TWO)
    pair.commit()
    pair.append(TWO)
    pair.commit()
    assert pair.kinds[-6:] == ["committed", "added", "done"] * 2
    pair.settle()
    assert [event["item_id"] for event in pair.of("completed")] == [event["item_id"] for event in pair.of("committed")]
    assert len(set(pair.transcripts)) == 1


def test_a_commit_of_nothing_is_an_error_that_closes_nothing() -> None:
    pair = RealtimePair()
    pair.send("input_audio_buffer.commit", event_id="mine")
    [error] = pair.errors
    assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "mine")
    pair.update(turn_detection=None)
    pair.append(audio_of(0.2, 1.0))
    pair.commit()
    pair.commit()
    assert [error["code"] for error in pair.errors] == ["input_audio_buffer_commit_empty"] * 2
    assert len(pair.transcripts) == 1


def test_a_commit_of_silence_is_an_item_without_text() -> None:
    for turn_detection in (None, EASY):
        pair = RealtimePair()
        pair.update(turn_detection=turn_detection)
        pair.append(audio_of(1.0))
        pair.commit()
        assert pair.transcripts == [""]
        assert pair.kinds[-4:] == ["committed", "added", "done", "completed"]


def test_a_commit_ends_the_turn_that_the_server_has_found() -> None:
    pair = RealtimePair()
    pair.append(audio_of(0.5, 1.5))
    assert pair.of("committed") == []
    pair.commit()
    assert pair.kinds[-5:] == ["committed", "added", "done", "delta", "completed"]
    assert len(pair.transcripts) == 1


def test_a_clear_drops_what_is_not_committed() -> None:
    pair = RealtimePair()
    pair.update(turn_detection=None)
    pair.append(audio_of(0.2, 2.0, 1.0))
    pair.send("input_audio_buffer.clear")
    pair.append(audio_of(0.2, 1.0))
    pair.commit()
    assert pair.transcripts == ["Word1 word2 word3."]
    assert len(pair.of("input_audio_buffer.cleared")) == 1


def test_a_clear_drops_the_running_turn_and_not_the_one_before() -> None:
    pair = RealtimePair()
    pair.append(audio_of(0.5, 2.0, 1.0, 1.0))
    pair.send("input_audio_buffer.clear")
    pair.append(audio_of(0.2, 1.5, 1.0))
    assert pair.transcripts == ["Word1 word2 word3 word4.", "Word1 word2 word3."]
    assert len(pair.of("speech_started")) == len(pair.of("speech_stopped")) == 3
    assert len(pair.of("committed")) == 2


def test_a_clear_before_any_audio_is_answered() -> None:
    pair = RealtimePair()
    pair.send("input_audio_buffer.clear")
    assert pair.kinds == ["created", "cleared"]


def test_turns_change_hands_in_mid_stream() -> None:
    pair = RealtimePair()
    pair.append(audio_of(0.5, 2.0, 1.0))
    pair.update(turn_detection=None)
    pair.append(audio_of(0.2, 1.0, 1.0, 1.0))
    pair.commit()
    pair.append(audio_of(0.2, 1.5))
    pair.update(turn_detection=EASY)
    pair.append(audio_of(0.2, 1.0, 1.0))
    assert pair.transcripts == [
        "Word1 word2 word3 word4.",
        "Word1 word2 word3. Word1 word2 word3.",
        "Word1 word2 word3.",
        "Word1 word2.",
    ]
    times = [event["audio_start_ms"] for event in pair.of("speech_started")]
    assert times[0] < 500
    assert times[-1] > 8_000
    assert pair.errors == []


def test_turns_change_hands_where_the_audio_is_and_not_where_the_results_are() -> None:
    """Starts of speech do not wait for results, as the answer to a flush does."""
    pair = RealtimePair()
    pair.append(audio_of(0.0, 0.8))
    pair.held = True
    pair.update(turn_detection=None)
    pair.append(audio_of(0.0, 0.8, 1.0))
    pair.detect()
    assert len(pair.of("speech_started")) == 1
    pair.settle()
    pair.commit()
    pair.held = False
    pair.settle()
    assert len(pair.of("committed")) == len(pair.transcripts) == 2
    assert len(pair.of("speech_started")) == len(pair.of("speech_stopped")) == 1


def test_a_commit_in_silence_is_an_item_of_its_own_while_the_model_is_slow() -> None:
    pair = RealtimePair()
    pair.held = True
    pair.append(audio_of(0.2, 1.0, 1.0))
    pair.detect()
    pair.commit()
    pair.append(audio_of(1.0, 1.0, 1.0))
    pair.detect()
    assert len(pair.of("committed")) == 2
    pair.settle()
    assert sorted(pair.transcripts)[0] == ""
    assert len(pair.transcripts) == len(pair.of("committed")) == 3


def test_a_server_that_shuts_down_gives_what_was_said() -> None:
    pair = RealtimePair()
    pair.update(turn_detection=None)
    pair.append(audio_of(0.2, 2.0))
    pair.outside.take(pair.outside.session.finish(pair.outside.now))
    pair.settle()
    assert pair.transcripts == ["Word1 word2 word3 word4."]
    assert pair.errors == []
    assert pair.outside.closes[0].code is ErrorCode.DRAINING


# Settings ---------------------------------------------------------------------------------------


def test_settings_that_are_left_out_keep_their_value_and_null_clears() -> None:
    pair = RealtimePair()
    pair.update(transcription={"model": "whisper-1", "language": "de"}, turn_detection={**EASY, "threshold": 0.7})
    pair.update(transcription={"prompt": "Namen"}, turn_detection={"type": "server_vad", "silence_duration_ms": 800})
    shown = pair.of("session.updated")[-1]["session"]["audio"]["input"]
    assert shown["transcription"] == {"model": "whisper-1", "language": "de", "prompt": "Namen"}
    assert shown["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.7,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 800,
    }
    pair.update(transcription=None, turn_detection=None)
    shown = pair.of("session.updated")[-1]["session"]["audio"]["input"]
    assert (shown["transcription"], shown["turn_detection"]) == (None, None)


def test_hints_reach_the_model() -> None:
    options = []

    def remembers(job: Job) -> Outcome:
        options.append(json.loads(job.options))
        return sentence(job)

    pair = RealtimePair(remembers)
    pair.update(transcription={"model": "whisper-1", "language": "de", "prompt": "Namen"})
    pair.append(audio_of(0.5, 1.0, 1.0))
    pair.update(transcription={"language": "fr"})
    pair.append(audio_of(0.5, 1.0, 1.0))
    assert options[0] == {"language": "de", "prompt": "Namen"}
    assert options[-1] == {"language": "fr", "prompt": "Namen"}


@pytest.mark.parametrize(("eagerness", "turns"), [("low", 1), ("auto", 2), ("high", 2)])
def test_eagerness_is_the_silence_that_ends_a_turn(eagerness: str, turns: int) -> None:
    pair = RealtimePair()
    pair.update(turn_detection={"type": "semantic_vad", "eagerness": eagerness})
    pair.append(audio_of(0.5, 1.0, 1.0, 1.0, 2.0))
    assert len(pair.transcripts) == turns
    assert pair.of("updated")[0]["session"]["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": eagerness,
    }


def test_a_padding_and_a_silence_that_would_cut_words_are_lengthened_and_shown() -> None:
    pair = RealtimePair(floor=TurnFloor(600, 300))
    greeted = pair.events[0]["session"]["audio"]["input"]["turn_detection"]
    assert (greeted["prefix_padding_ms"], greeted["silence_duration_ms"]) == (600, 500)
    pair.update(turn_detection={"type": "server_vad", "prefix_padding_ms": 20, "silence_duration_ms": 20})
    shown = pair.of("updated")[0]["session"]["audio"]["input"]["turn_detection"]
    assert (shown["prefix_padding_ms"], shown["silence_duration_ms"]) == (600, 300)
    pair.append(audio_of(1.0, 1.0, 1.0))
    assert pair.of("speech_started")[0]["audio_start_ms"] == pytest.approx(400, abs=40)


@pytest.mark.parametrize(
    ("format_", "bytes_per_second"),
    [({"type": "audio/pcm", "rate": 16_000}, 32_000), ({"type": "audio/pcmu"}, 8_000), ({"type": "audio/pcma"}, 8_000)],
)
def test_formats_are_taken_as_they_are_named(format_: dict[str, object], bytes_per_second: int) -> None:
    pair = RealtimePair()
    pair.update(format=format_, turn_detection=None)
    pair.append(bytes(bytes_per_second))
    pair.commit()
    assert pair.outside.session.summary.received_s == 1.0
    assert pair.errors == []


def test_the_format_cannot_change_after_the_first_audio() -> None:
    pair = RealtimePair()
    pair.append(audio_of(0.1))
    pair.update(format={"type": "audio/pcmu"})
    [error] = pair.errors
    assert error["param"] == "session.audio.input.format"
    pair.update(format={"type": "audio/pcm", "rate": RATE})
    assert len(pair.errors) == 1


def test_confidences_are_log_probabilities_if_the_client_includes_them() -> None:
    def sure(job: Job) -> Outcome:
        words = [{"word": "yes", "start_time": 0.1, "end_time": 0.3, "confidence": 0.5}]
        return Output.of({"text": "yes", "words": words})

    pair = RealtimePair(sure)
    pair.send(
        "session.update",
        session={"type": "transcription", "include": ["item.input_audio_transcription.logprobs"]},
    )
    pair.append(audio_of(0.5, 1.0, 1.0))
    assert pair.of("completed")[0]["logprobs"] == [{"token": "yes", "bytes": [121, 101, 115], "logprob": -0.693147}]


# The beta ---------------------------------------------------------------------------------------


def test_the_beta_is_answered_in_its_words() -> None:
    pair = RealtimePair(is_beta=True)
    assert pair.events[0]["type"] == "transcription_session.created"
    pair.send(
        "transcription_session.update",
        session={
            "input_audio_format": "pcm16",
            "input_audio_transcription": {"model": "whisper-1"},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 600},
        },
    )
    [updated] = pair.of("transcription_session.updated")
    assert updated["session"]["input_audio_format"] == "pcm16"
    assert updated["session"]["turn_detection"]["silence_duration_ms"] == 600
    pair.append(TWO)
    assert len(pair.of("conversation.item.created")) == 2
    assert pair.of("conversation.item.added") == []
    assert len(pair.transcripts) == 2


def test_a_client_that_speaks_the_beta_later_is_understood() -> None:
    pair = RealtimePair()
    pair.send("transcription_session.update", session={"input_audio_format": "g711_ulaw", "turn_detection": None})
    assert pair.kinds == ["created", "updated"]
    assert pair.events[1]["session"]["input_audio_format"] == "g711_ulaw"
    assert pair.events[1]["session"]["turn_detection"] is None


# Bad input --------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str | bytes, str | None, str]] = {
    "not JSON": ("{", None, "not JSON"),
    "not an object": ("[]", None, "expected `object`"),
    "without a type": ('{"audio":""}', "type", "expected one of session.update"),
    "an unknown type": ('{"type":"response.create"}', "type", "expected one of session.update"),
    "half of a surrogate pair": ('{"type":"\ud800"}', None, "not JSON"),
    "nested too deep": ('{"type":"session.update","session":' + '{"a":' * 100_000, None, "JSON"),
    "bad base64": ('{"type":"input_audio_buffer.append","audio":"###"}', "audio", "expected audio in base64"),
    "audio that is a number": ('{"type":"input_audio_buffer.append","audio":1}', "audio", "base64"),
    "no audio": ('{"type":"input_audio_buffer.append"}', None, "missing required field `audio`"),
    "a wrong type of session": (
        '{"type":"session.update","session":{"type":"realtime"}}',
        "session.type",
        "expected transcription",
    ),
    "a wrong number": (
        '{"type":"session.update","session":{"audio":{"input":{"turn_detection":{"type":"server_vad","threshold":2}}}}}',
        "session.audio.input.turn_detection.threshold",
        "expected `float` <= 1",
    ),
    "too long a pause": (
        '{"type":"session.update","session":{"turn_detection":{"type":"server_vad","silence_duration_ms":99999}}}',
        "session.audio.input.turn_detection.silence_duration_ms",
        "expected at most 10000",
    ),
    "a wrong rate": (
        '{"type":"session.update","session":{"audio":{"input":{"format":{"type":"audio/pcm","rate":1}}}}}',
        "format.sample_rate",
        "expected an integer from 4000",
    ),
    "a binary message": (b"RIFF", None, "expected an event as a text message"),
    "much text": ('{"type":"input_audio_buffer.clear","x":"' + "x" * 20_000 + '"}', None, "at most 16384 characters"),
}


@pytest.mark.parametrize("name", WRONG)
def test_input_that_cannot_be_read_is_an_error_that_closes_nothing(name: str) -> None:
    frame, param, text = WRONG[name]
    pair = RealtimePair()
    pair.append(audio_of(0.5))
    pair.send_frame(frame)
    [error] = pair.errors
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert text in error["message"]
    assert len(error["message"]) < 400
    pair.append(audio_of(0.0, 1.0, 1.0))
    assert pair.outside.closes == []
    assert len(pair.transcripts) == 1


def test_an_error_names_the_event_that_caused_it() -> None:
    pair = RealtimePair()
    pair.send("no.such.event", event_id="mine")
    pair.send("session.update", event_id="yours", session={"type": "realtime"})
    pair.send("session.update", event_id=7, session={})
    assert [error["event_id"] for error in pair.errors] == ["mine", "yours", None]


def test_every_event_but_audio_is_charged() -> None:
    """A client that sends nothing but errors would otherwise cost nothing in its work budget."""
    pair = RealtimePair()
    for frame in ("{", '{"type":"input_audio_buffer.clear"}', '{"type":"session.update","session":{}}', b"x"):
        steps = pair.codec.decode(frame)
        assert isinstance(steps, list)
        assert type(steps[-1]).__name__ == "KeepAlive"


def test_a_stream_that_is_too_long_is_an_expired_session() -> None:
    pair = RealtimePair(limits=Limits(max_stream_s=1.0))
    for _ in range(3):
        if not pair.outside.closes:
            pair.append(audio_of(0.6), size=100_000)
    assert [error["code"] for error in pair.errors] == ["session_expired"]


# Properties -------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.lists(st.integers(0, len(TWO)), max_size=30))
def test_audio_that_is_cut_anywhere_gives_the_same_transcripts(cuts: list[int]) -> None:
    pair = RealtimePair()
    for start, end in pairwise([0, *sorted(cuts), len(TWO)]):
        pair.append(TWO[start:end], size=200_000)
    assert pair.transcripts == ["Word1 word2 word3 word4.", "Word1 word2 word3."]


COMMANDS = st.sampled_from(
    ["say", "pause", "commit", "clear", "by client", "by server", "nonsense", "hold", "detect", "go on"]
)


@settings(max_examples=100)
@given(st.lists(COMMANDS, max_size=14))
def test_whatever_a_client_does_every_item_is_committed_once_and_completed_once(commands: list[str]) -> None:
    pair = RealtimePair()
    for command in commands:
        match command:
            case "say":
                pair.append(audio_of(0.0, 0.8))
            case "pause":
                pair.append(audio_of(0.7))
            case "commit":
                pair.commit()
            case "clear":
                pair.send("input_audio_buffer.clear")
            case "by client":
                pair.update(turn_detection=None)
            case "by server":
                pair.update(turn_detection=EASY)
            case "nonsense":
                pair.send_frame("nonsense")
            case "detect":
                pair.detect()
            case _:
                pair.held = command == "hold"
    pair.held = False
    pair.append(audio_of(1.0))
    pair.settle()
    committed = [event["item_id"] for event in pair.of("committed")]
    assert sorted(event["item_id"] for event in pair.of("completed")) == sorted(committed)
    assert len(set(committed)) == len(committed)
    assert pair.outside.closes == []
    for event in pair.of("completed"):
        assert pair.deltas(event["item_id"]) == event["transcript"]
    previous = [event["previous_item_id"] for event in pair.of("committed")]
    assert previous == [None, *committed][: len(committed)]
    assert len(pair.of("speech_started")) - len(pair.of("speech_stopped")) in (0, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["session.update", "transcription_session.update", "input_audio_buffer.append", "input_audio_buffer.commit"]
FIELDS = st.sampled_from(["session", "audio", "event_id", "input", "format", "turn_detection", "type", "include"])


@given(
    st.one_of(
        st.text(max_size=100),
        st.binary(max_size=50),
        st.builds(
            lambda kind, fields: json.dumps({"type": kind, **fields}),
            st.sampled_from(NAMES),
            st.dictionaries(FIELDS, JSON | st.dictionaries(FIELDS, JSON, max_size=3), max_size=4),
        ),
    )
)
def test_no_frame_raises_or_closes(frame: str | bytes) -> None:
    pair = RealtimePair()
    pair.send_frame(frame)
    assert pair.outside.closes == []
    for error in pair.errors:
        assert len(error["message"]) < 500
