"""libopus by ctypes: packets straight to 16-bit samples at the rate that is wanted."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ConfigError, install_command
from streamer.media.opus_header import CLOCK_RATE, MAX_PACKET_SAMPLES, OpusHeader
from streamer.media.packets import DamagedMedia, UnsupportedMedia

RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Hz that libopus decodes to."""
_MAX_CHANNELS = 8
_BUNDLED = (("av", "../av.libs/libopus-*"), ("av", ".dylibs/libopus*"), ("opuslib_next", "**/*opus*.so*"))
"""Packages that bring the library, and its place in them."""
_SAMPLE_BYTES = 2

# One for the process: a decoder writes there, and its bytes are copied before another one can run.
_SCRATCH = ctypes.create_string_buffer(MAX_PACKET_SAMPLES * _MAX_CHANNELS * _SAMPLE_BYTES)
_SCRATCH_AT = ctypes.addressof(_SCRATCH)


class OpusDecoder:
    """A Decoder of one stream, or of several that make up its channels. A packet that is lost is concealed."""

    def __init__(
        self, header: OpusHeader, rate: int, *, downmix: bool = False, library: ctypes.CDLL | None = None
    ) -> None:
        """Create a decoder. Raises DamagedMedia, and UnsupportedMedia without libopus.

        `rate`: one of RATES in Hz; any other becomes 48 kHz. `library`: see load_libopus.
        """
        library = library or load_libopus()
        rate = rate if rate in RATES else CLOCK_RATE
        self._handle = 0
        is_multistream = header.streams > 0
        self._destroy = library.opus_multistream_decoder_destroy if is_multistream else library.opus_decoder_destroy
        self._decode = library.opus_multistream_decode if is_multistream else library.opus_decode
        channels = 1 if downmix and not is_multistream else header.channels
        error = ctypes.c_int()
        if is_multistream:
            handle = library.opus_multistream_decoder_create(
                rate, channels, header.streams, header.coupled, header.mapping, ctypes.byref(error)
            )
        else:
            handle = library.opus_decoder_create(rate, channels, ctypes.byref(error))
        if not handle:
            raise DamagedMedia(f"Opus: a header that libopus refuses ({error.value})")
        self._handle = handle
        self.format = AudioFormat(Encoding.PCM_S16LE, rate, channels)
        self._frame_bytes = self.format.frame_bytes
        self._max_samples = MAX_PACKET_SAMPLES * rate // CLOCK_RATE
        self._gain = 10 ** (header.gain_db / 20)

    def decode(self, data: bytes) -> bytes | None:
        """Interleaved samples of a packet; None if it cannot be decoded."""
        samples = self._decode(self._handle, data, len(data), _SCRATCH_AT, self._max_samples, 0)
        if samples < 0:
            return None
        return self._taken(samples)

    def conceal(self, samples: int) -> bytes:
        """Return a guess at a packet that cannot be decoded. `samples`: its length at the format's rate."""
        made = self._decode(self._handle, None, 0, _SCRATCH_AT, min(samples, self._max_samples), 0)
        return self._taken(made) if made == samples else bytes(samples * self._frame_bytes)

    def flush(self) -> bytes:
        return b""

    def _taken(self, samples: int) -> bytes:
        data = ctypes.string_at(_SCRATCH_AT, samples * self._frame_bytes)
        if self._gain == 1.0:
            return data
        louder = np.rint(np.frombuffer(data, "<i2") * self._gain)
        return np.clip(louder, -32_768, 32_767).astype("<i2").tobytes()

    def __del__(self) -> None:
        if getattr(self, "_handle", 0):
            self._destroy(self._handle)
            self._handle = 0


@cache
def load_libopus(path: str = "") -> ctypes.CDLL:
    """Load the library at `path` only; if empty, the system's, PyAV's, or opuslib_next's. Raises UnsupportedMedia."""
    for name in candidates(path):
        try:
            return _declared(ctypes.CDLL(name))
        except (OSError, AttributeError):
            continue
    raise UnsupportedMedia(
        f"Opus: expected libopus, which is not installed here; install it (Debian: libopus0) or {install_command('av')}"
    )


def check_libopus(path: str) -> None:
    """Raise ConfigError if `path` is set and not libopus."""
    try:
        if path:
            load_libopus(path)
    except UnsupportedMedia:
        raise ConfigError(field="audio.libopus", expected="the path of libopus", got=path) from None


def candidates(path: str) -> Iterator[str]:
    """Yield the names to load libopus by, in order of preference. `path`: see load_libopus."""
    if path:
        yield path
        return
    yield from ("libopus.so.0", "libopus.0.dylib", "libopus-0.dll", "opus.dll")
    for package, pattern in _BUNDLED:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            yield from sorted(str(found) for found in Path(spec.origin).parent.glob(pattern))


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Load a library and set the types of its functions. Raises AttributeError if it is not libopus."""
    pointer, integer, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_int32
    error = ctypes.POINTER(ctypes.c_int)
    library.opus_decoder_create.argtypes = [size, integer, error]
    library.opus_multistream_decoder_create.argtypes = [size, integer, integer, integer, ctypes.c_char_p, error]
    for name in ("opus_decoder_create", "opus_multistream_decoder_create"):
        getattr(library, name).restype = pointer
    for name in ("opus_decode", "opus_multistream_decode"):
        getattr(library, name).argtypes = [pointer, ctypes.c_char_p, size, pointer, integer, integer]
    for name in ("opus_decoder_destroy", "opus_multistream_decoder_destroy"):
        getattr(library, name).argtypes = [pointer]
        getattr(library, name).restype = None
    return library
