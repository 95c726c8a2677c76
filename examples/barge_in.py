"""A client that interrupts: streams a recording like a microphone, and silences the answer when its speaker goes on.

streamer serve examples/spoken_reply.py:SpokenReply
python examples/barge_in.py FILE [ws://localhost:8080/api/v2/segmented]

It prints what happens, and for each interruption the time from `clear` to the last audio of the answer.
"""

import asyncio
import sys
import time

import soundfile

import streamer
from streamer.client import AudioChunk, AudioEnded, AudioStarted, Cleared, SpeechStarted

CHUNK_S = 0.02


async def speak(stream, samples, rate):
    began = time.monotonic()
    frames = int(CHUNK_S * rate)
    for at in range(0, len(samples), frames):
        await asyncio.sleep(max(0.0, began + at / rate - time.monotonic()))
        await stream.send(samples[at : at + frames].tobytes())
    await stream.stop()


async def main(path, url="ws://localhost:8080/api/v2/segmented"):
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    is_playing, cleared_at, last_audio = False, None, 0.0
    async with streamer.connect(url, sample_rate=rate, audio_out=True) as stream, asyncio.TaskGroup() as tasks:
        tasks.create_task(speak(stream, samples[:, :1].copy(), rate))
        async for event in stream:
            match event:
                case AudioStarted():
                    is_playing = True
                    print(f"answer to segment {event.segment_id} begins")
                case AudioChunk():
                    last_audio = time.monotonic()
                case SpeechStarted() if is_playing:
                    print(f"speech at {event.time:.2f} s: clear")
                    cleared_at = time.monotonic()
                    await stream.clear()
                case AudioEnded():
                    is_playing = False
                    print(f"answer to segment {event.segment_id} ends after {event.frames / rate:.2f} s")
                case Cleared():
                    late_ms = 1000 * max(0.0, last_audio - cleared_at)
                    answer_ms = 1000 * (time.monotonic() - cleared_at)
                    print(f"dropped {event.frames / rate:.2f} s; last audio {late_ms:.1f} ms after clear, ", end="")
                    print(f"cleared after {answer_ms:.1f} ms")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
