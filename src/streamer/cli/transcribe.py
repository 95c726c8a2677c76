"""`streamer transcribe`: recordings to text and captions, through the server's own engine, without a socket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli.weights import load_recogniser

if TYPE_CHECKING:
    from streamer.audio.files import AudioFile
    from streamer.cli.inprocess import Local
    from streamer.config import LoadedSettings, Settings
    from streamer.transcripts.formats import Part

Progress = Callable[[str, float], None]
"""Called with a recording and the seconds of it that are done."""

_CHUNK = 32 * 1024


class OutputFormat(StrEnum):
    """File format of a transcript."""

    TXT = "txt"
    SRT = "srt"
    VTT = "vtt"
    JSON = "json"
    TSV = "tsv"


def transcribe(
    files: Annotated[list[str], typer.Argument(help="WAV, FLAC, Ogg, AIFF, ..., or URLs; channels are mixed.")],
    model: Annotated[
        str | None, typer.Option(help="As for streamer serve.", show_default="moonshine", metavar="MODEL")
    ] = None,
    format_: Annotated[
        OutputFormat, typer.Option("--format", "-f", help="srt and vtt are captions.")
    ] = OutputFormat.TXT,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory for one file each; without it all go to stdout.", metavar="DIR"),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Files at a time.", min=1, max=64, metavar="N")] = 4,
    options: Annotated[
        str, typer.Option(help='For the model, as a client sends them: \'{"language": "de"}\'.', metavar="JSON")
    ] = "{}",
    config: Annotated[Path | None, typer.Option(help="Settings, TOML or JSON (by its suffix).", metavar="FILE")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, such as model.threads=2. May be repeated.", metavar="KEY=VALUE"),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never fetch weights from the network.")] = False,
) -> None:
    """Transcribe recordings. The exit code is 1 if one of them failed; the others are written anyway."""
    import asyncio
    import logging

    from streamer.errors import ConfigError, ModelLoadError

    logging.basicConfig(level="WARNING", format="%(message)s")
    try:
        _check_options(options)
        loaded = load_recogniser(config, set_ or (), model, offline=offline)
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
        failed = asyncio.run(_transcribe(loaded, files, format_, output, jobs, options.encode()))
    except (ConfigError, ModelLoadError) as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"error: {output}: {error.strerror}", err=True)
        raise typer.Exit(2) from None
    if failed:
        raise typer.Exit(1)


def _check_options(text: str) -> None:
    import msgspec

    from streamer.errors import ConfigError

    try:
        msgspec.json.decode(text, type=dict)
    except msgspec.DecodeError:
        raise ConfigError(field="--options", expected="a JSON object", got=text) from None


async def _transcribe(
    loaded: LoadedSettings, files: Sequence[str], format_: OutputFormat, output: Path | None, jobs: int, options: bytes
) -> int:
    """Transcribe all files, `jobs` at a time. Return the number of failed files."""
    import asyncio
    from time import monotonic

    from streamer.cli.inprocess import serving_here
    from streamer.cli.recordings import file_name
    from streamer.cli.transcribe_view import progress_of
    from streamer.errors import StreamerError
    from streamer.transcripts.formats import FORMATS

    failed = 0
    texts: dict[int, str] = {}
    count = 0
    seconds = 0.0
    places = asyncio.Semaphore(jobs)

    def show(index: int, text: str) -> None:
        """Print texts in the order of the files, each as soon as the texts before it are complete."""
        nonlocal count
        texts[index] = text
        while count in texts:
            typer.echo(texts.pop(count), nl=False)
            count += 1

    async with serving_here(_patient(loaded)) as local:
        started_at = monotonic()
        with progress_of(files) as progress:

            async def one(index: int, name: str) -> None:
                nonlocal failed, seconds
                text = ""
                async with places:
                    try:
                        length, parts = await recognise(local, name, options, progress)
                        seconds += length
                        text = FORMATS[format_](parts)
                        if output is not None:
                            (output / f"{Path(file_name(name)).stem}.{format_}").write_text(text, "utf-8")
                    except (StreamerError, OSError) as error:
                        failed += 1
                        typer.echo(f"error: {_named(name, error)}", err=True)
                if output is None:
                    show(index, text)

            async with asyncio.TaskGroup() as tasks:
                for index, name in enumerate(files):
                    tasks.create_task(one(index, name))
        took = monotonic() - started_at
    done = len(files) - failed
    typer.echo(
        f"{done} of {len(files)} files, {seconds:.1f} s in {took:.1f} s: {seconds / took:.0f} x real time", err=True
    )
    return failed


def _named(name: str, error: Exception) -> str:
    """Return the message of an error, which names its recording once."""
    return str(error) if str(error).startswith(f"{name}: ") else f"{name}: {error}"


def _patient(loaded: LoadedSettings) -> Settings:
    """Use a longer pause than in live streams as the end of speech: longer segments are recognised better."""
    from dataclasses import replace

    ours: dict[str, Any] = {"redemption_time_ms": 1_200.0, "post_speech_pad_ms": 200.0}
    unset = {name: value for name, value in ours.items() if loaded.origin(f"vad.{name}") == "default"}
    return loaded.settings.model_copy(update={"vad": replace(loaded.settings.vad, **unset)})


async def recognise(local: Local, name: str, options: bytes, progress: Progress) -> tuple[float, list[Part]]:
    """Return the seconds of a recording and its transcript. Raises StreamerError."""
    import asyncio

    from streamer.cli.recordings import read_recording
    from streamer.client.events import Error
    from streamer.client.sources import chunks, wire_audio
    from streamer.errors import StreamerError
    from streamer.session.messages import Start

    audio = mixed(await asyncio.to_thread(read_recording, name))
    format_, data = wire_audio(audio)
    parts: list[Part] = []
    async with local.stream(Start(format=format_, options=options)) as stream, asyncio.TaskGroup() as tasks:

        async def speak() -> None:
            for piece in chunks(data, _CHUNK):
                await stream.send(piece)
            await stream.stop()

        speaking = tasks.create_task(speak())
        try:
            async for event in stream:
                if isinstance(event, Error):
                    raise StreamerError(event.message)
                if (part := part_of(event)) is not None:
                    parts.append(part)
                if (done := getattr(event, "committed", None)) is not None:
                    progress(name, done / audio.sample_rate)
        finally:
            speaking.cancel()
    progress(name, audio.seconds)
    return audio.seconds, parts


def mixed(audio: AudioFile) -> AudioFile:
    """Mix all channels into one, because captions are for all of them."""
    from dataclasses import replace

    import numpy as np

    if audio.channels == 1:
        return audio
    return replace(audio, samples=np.mean(audio.samples, axis=0, dtype=np.float32, keepdims=True), subtype="FLOAT")


def part_of(event: object) -> Part | None:
    """Return the part of a final; None for other events. Raises StreamerError for an output that is no transcript."""
    from streamer.client.events import Segment
    from streamer.errors import StreamerError
    from streamer.transcripts.formats import Part
    from streamer.transcripts.transcript import read_transcript

    if not isinstance(event, Segment) or not event.is_final:
        return None
    transcript = read_transcript(event.output)
    if transcript is None:
        raise StreamerError("the model answers no transcripts: expected an object with a text, or a string")
    return Part.of(transcript, event.start_time, event.end_time)
