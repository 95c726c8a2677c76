"""Compressed audio in front of a session: its memory is counted, and given back at each end."""

from __future__ import annotations

import io
import wave

import pytest

from streamer.errors import ErrorCode
from streamer.media.formats import Container, MediaFormat, provisional
from streamer.session.actions import Decode, Job, Outcome
from streamer.session.compressed import CompressedInput
from streamer.session.memory import MemoryPool
from streamer.session.messages import Audio, Configure, Flush, Message, Start, Stop
from tests.media.material import read
from tests.session.harness import SessionHarness, bursts, count_samples

START = Start(provisional(), media=MediaFormat(Container.AUTO))
PHRASE = bursts(0.2, 1.0, 1.0).tobytes()


def begun(pool: MemoryPool, *messages: Message) -> tuple[SessionHarness, CompressedInput]:
    """A session whose client has sent a start and these messages, of which one step is decoded."""
    outside = SessionHarness(pool=pool)
    compressed = CompressedInput(outside.session)
    for message in (START, *messages):
        outside.take([action for action in compressed.receive(message, outside.now) if type(action) is not Decode])
    outside.take(outside.session.relieve(outside.now))
    return outside, compressed


def test_memory_of_messages_that_wait_for_decoding_is_counted() -> None:
    pool = MemoryPool()
    data = read("mediarecorder.webm")
    outside, compressed = begun(pool, Audio(data), Flush(), *[Audio(data)] * 3)
    assert compressed.is_pending
    assert pool.used > 3.5 * len(data)
    while compressed.is_pending:
        outside.take([action for action in compressed.proceed(outside.now) if type(action) is not Decode])
        while outside.scores:
            outside.score_one()
    outside.take(outside.session.relieve(outside.now))
    assert outside.session.load.undecoded_bytes == 0
    assert pool.used < len(data) + outside.session.load.backlog_s * 32_000 + 2**20


@pytest.mark.parametrize("end", ["the client hangs up", "the server ends it"])
def test_a_session_that_ends_before_its_audio_is_decoded_leaves_no_memory(end: str) -> None:
    pool = MemoryPool()
    data = read("mediarecorder.webm")
    outside, compressed = begun(pool, Audio(data), Flush(), Audio(data))
    assert pool.used > len(data)
    if end == "the client hangs up":
        outside.take(outside.session.on_disconnect(outside.now))
    else:
        outside.take(outside.session.close_with_error(ErrorCode.OVERLOADED, "too much", outside.now))
    assert not compressed.is_pending
    assert pool.used == 0


def test_changed_settings_apply_after_the_audio_before_them_and_before_the_audio_after_them() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams((1, 2, 16_000, 0, "NONE", ""))
        recording.writeframes(3 * PHRASE)
    data = file.getvalue()
    asked: list[bytes] = []

    def answer(job: Job) -> Outcome:
        asked.append(job.options)
        return count_samples(job)

    outside = SessionHarness(model=answer)
    compressed = CompressedInput(outside.session)
    changes = Configure(options=b'{"language":"de"}')
    for message in (START, Audio(data[: -len(PHRASE)]), changes, Audio(data[-len(PHRASE) :]), Stop()):
        outside.take([action for action in compressed.receive(message, outside.now) if type(action) is not Decode])
    assert compressed.is_pending
    while compressed.is_pending:
        outside.settle()
        outside.take([action for action in compressed.proceed(outside.now) if type(action) is not Decode])
    outside.settle()
    assert asked == [b"{}", b"{}", changes.options]
    assert outside.session.load.undecoded_bytes == 0
