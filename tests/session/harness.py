"""The outside of a session, by hand: it keeps what was asked for and answers when, and in what order, a test says."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.audio.deferred_decoder import decode_samples
from streamer.audio.format import AudioFormat, Encoding
from streamer.session.actions import Action, Cancel, Close, Emit, Infer, Job, JobId, Outcome, Output, Release, Score
from streamer.session.events import Ack, AudioChunk, Event, Mode, Segment, SpeechEnded, SpeechStarted
from streamer.session.memory import MemoryPool
from streamer.session.messages import Audio, Message, Start
from streamer.session.session import Session
from streamer.session.settings import SessionSettings

WINDOW = 512
S16 = AudioFormat(Encoding.PCM_S16LE, 16_000, 1)


def count_samples(job: Job) -> Outcome:
    """The stub's answer."""
    return Output.of({"count": len(job.samples)})


class SessionHarness:
    """One session and everything around it, without a clock, a thread or a socket."""

    def __init__(
        self,
        settings: SessionSettings | None = None,
        model: Callable[[Job], Outcome] = count_samples,
        pool: MemoryPool | None = None,
    ) -> None:
        self.now = 100.0
        self.session = Session(settings or SessionSettings(Mode.SEGMENTED), "s", self.now, pool)
        self.model = model
        self.events: list[Event] = []
        self.scores: list[Score] = []
        self.jobs: dict[JobId, Job] = {}
        self.cancelled: set[JobId] = set()
        self.released: list[int] = []
        self.closes: list[Close] = []
        self.reads = True
        """Whether the client takes audio out at once."""
        self.unread = 0

    def take(self, actions: Sequence[Action]) -> None:
        for action in actions:
            assert not self.closes, f"{action} after the close"
            match action:
                case Emit(event):
                    self.events.append(event)
                    if type(event) is AudioChunk:
                        self.unread += len(event.data)
                case Score():
                    assert all(score.channel != action.channel for score in self.scores), "two scores of one channel"
                    assert len(action.samples) % WINDOW == 0
                    self.scores.append(action)
                case Infer(job):
                    assert job.id not in self.jobs
                    self.jobs[job.id] = job
                case Cancel(job_id):
                    self.cancelled.add(job_id)
                    self.jobs.pop(job_id, None)
                case Release(stream):
                    self.released.append(stream)
                case Close():
                    self.closes.append(action)

        if self.unread and self.reads:
            size, self.unread = self.unread, 0
            self.take(self.session.audio_sent(size, self.now))

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.take(self.session.receive(message, self.now))

    def score_one(self, index: int = 0) -> None:
        score = self.scores.pop(index)
        speech = [loudness(window) for window in decode_samples(score.samples).reshape(-1, WINDOW)]
        self.take(self.session.on_scores(score.channel, speech, self.now))

    def infer_one(self, job_id: JobId) -> None:
        job = self.jobs.pop(job_id)
        self.take(self.session.on_outcome(job_id, self.model(job), self.now))

    def answer_one(self, rng: random.Random) -> None:
        """Answer any score or job that is outstanding, then do what the outside does after each answer."""
        if self.scores and (not self.jobs or rng.random() < 0.5):
            self.score_one(rng.randrange(len(self.scores)))
        else:
            self.infer_one(rng.choice(list(self.jobs)))
        self.take(self.session.relieve(self.now))

    def settle(self, rng: random.Random | None = None) -> None:
        """Answer everything, in order or in any order."""
        while self.scores or self.jobs:
            if self.scores and (not self.jobs or not rng or rng.random() < 0.5):
                self.score_one(rng.randrange(len(self.scores)) if rng else 0)
            else:
                self.infer_one(rng.choice(list(self.jobs)) if rng else next(iter(self.jobs)))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.session.on_timer(self.now))

    def of(self, *kinds: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kinds)]

    @property
    def facts(self) -> list[Event]:
        return self.of(SpeechStarted, SpeechEnded)

    @property
    def finals(self) -> list[Segment]:
        return [event for event in self.events if isinstance(event, Segment) and event.is_final]

    @property
    def interims(self) -> list[Segment]:
        return [event for event in self.events if isinstance(event, Segment) and not event.is_final]

    @property
    def heard(self) -> list[Event]:
        """Everything but the acks, which follow the messages and not the audio."""
        return [event for event in self.events if not isinstance(event, Ack)]


def loudness(window: NDArray[np.float32]) -> float:
    """A scorer that takes what is loud for speech."""
    return 0.95 if float(np.abs(window).max()) > 0.1 else 0.02


def bursts(*lengths_s: float, rate: int = 16_000, seed: int = 0) -> NDArray[np.int16]:
    """Silence and noise by turns, beginning with silence: int16 [n]."""
    noise = np.random.default_rng(seed)
    parts = [
        noise.integers(-12_000, 12_000, round(length * rate)) * (index % 2) for index, length in enumerate(lengths_s)
    ]
    return np.concatenate(parts).astype("<i2")


def cut(data: bytes, sizes: Iterable[int]) -> list[Audio]:
    """`data` in messages of these sizes; the rest in a last one."""
    messages, at = [], 0
    for size in sizes:
        if at >= len(data):
            break
        messages.append(Audio(data[at : at + size]))
        at += size
    if at < len(data):
        messages.append(Audio(data[at:]))
    return messages


def start(form: AudioFormat = S16, **more: object) -> Start:
    return Start(form, **more)  # type: ignore[arg-type]
