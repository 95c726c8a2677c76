from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_UNSPECIFIED: _ClassVar[Encoding]
    ENCODING_PCM_U8: _ClassVar[Encoding]
    ENCODING_PCM_S16LE: _ClassVar[Encoding]
    ENCODING_PCM_S16BE: _ClassVar[Encoding]
    ENCODING_PCM_S24LE: _ClassVar[Encoding]
    ENCODING_PCM_S32LE: _ClassVar[Encoding]
    ENCODING_PCM_F32LE: _ClassVar[Encoding]
    ENCODING_PCM_F64LE: _ClassVar[Encoding]
    ENCODING_MULAW: _ClassVar[Encoding]
    ENCODING_ALAW: _ClassVar[Encoding]
    ENCODING_AUTO: _ClassVar[Encoding]
    ENCODING_OGG: _ClassVar[Encoding]
    ENCODING_WEBM: _ClassVar[Encoding]
    ENCODING_MP4: _ClassVar[Encoding]
    ENCODING_WAV: _ClassVar[Encoding]
    ENCODING_FLAC: _ClassVar[Encoding]
    ENCODING_MP3: _ClassVar[Encoding]
    ENCODING_AAC: _ClassVar[Encoding]
    ENCODING_AMR: _ClassVar[Encoding]
    ENCODING_OPUS: _ClassVar[Encoding]
    ENCODING_G722: _ClassVar[Encoding]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_SIMPLE: _ClassVar[Mode]
    MODE_SEGMENTED: _ClassVar[Mode]

class WarningCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WARNING_CODE_UNSPECIFIED: _ClassVar[WarningCode]
    WARNING_CODE_PARTIAL_FRAME: _ClassVar[WarningCode]
    WARNING_CODE_AUDIO_CLAMPED: _ClassVar[WarningCode]
    WARNING_CODE_LAGGING: _ClassVar[WarningCode]
    WARNING_CODE_INTERIMS_SHED: _ClassVar[WarningCode]
    WARNING_CODE_STATE_LOST: _ClassVar[WarningCode]

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_CODE_UNSPECIFIED: _ClassVar[ErrorCode]
    ERROR_CODE_BAD_REQUEST: _ClassVar[ErrorCode]
    ERROR_CODE_BAD_STATE: _ClassVar[ErrorCode]
    ERROR_CODE_INVALID_FORMAT: _ClassVar[ErrorCode]
    ERROR_CODE_INVALID_AUDIO: _ClassVar[ErrorCode]
    ERROR_CODE_WRONG_FRAME_TYPE: _ClassVar[ErrorCode]
    ERROR_CODE_INVALID_UTF8: _ClassVar[ErrorCode]
    ERROR_CODE_PROTOCOL_ERROR: _ClassVar[ErrorCode]
    ERROR_CODE_MESSAGE_TOO_BIG: _ClassVar[ErrorCode]
    ERROR_CODE_UNAUTHENTICATED: _ClassVar[ErrorCode]
    ERROR_CODE_TOKEN_EXPIRED: _ClassVar[ErrorCode]
    ERROR_CODE_TOKEN_REPLAYED: _ClassVar[ErrorCode]
    ERROR_CODE_FORBIDDEN: _ClassVar[ErrorCode]
    ERROR_CODE_FORBIDDEN_ORIGIN: _ClassVar[ErrorCode]
    ERROR_CODE_START_TIMEOUT: _ClassVar[ErrorCode]
    ERROR_CODE_IDLE_TIMEOUT: _ClassVar[ErrorCode]
    ERROR_CODE_STREAM_TOO_LONG: _ClassVar[ErrorCode]
    ERROR_CODE_TOO_FAST: _ClassVar[ErrorCode]
    ERROR_CODE_RATE_LIMITED: _ClassVar[ErrorCode]
    ERROR_CODE_SLOW_CONSUMER: _ClassVar[ErrorCode]
    ERROR_CODE_MODEL_ERROR: _ClassVar[ErrorCode]
    ERROR_CODE_MODEL_TIMEOUT: _ClassVar[ErrorCode]
    ERROR_CODE_MODEL_CRASHED: _ClassVar[ErrorCode]
    ERROR_CODE_OVERLOADED: _ClassVar[ErrorCode]
    ERROR_CODE_DRAINING: _ClassVar[ErrorCode]
    ERROR_CODE_INTERNAL: _ClassVar[ErrorCode]
    ERROR_CODE_UNKNOWN_MODEL: _ClassVar[ErrorCode]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOPPED: _ClassVar[FinishReason]
    FINISH_REASON_RESTARTED: _ClassVar[FinishReason]
    FINISH_REASON_DRAINED: _ClassVar[FinishReason]
ENCODING_UNSPECIFIED: Encoding
ENCODING_PCM_U8: Encoding
ENCODING_PCM_S16LE: Encoding
ENCODING_PCM_S16BE: Encoding
ENCODING_PCM_S24LE: Encoding
ENCODING_PCM_S32LE: Encoding
ENCODING_PCM_F32LE: Encoding
ENCODING_PCM_F64LE: Encoding
ENCODING_MULAW: Encoding
ENCODING_ALAW: Encoding
ENCODING_AUTO: Encoding
ENCODING_OGG: Encoding
ENCODING_WEBM: Encoding
ENCODING_MP4: Encoding
ENCODING_WAV: Encoding
ENCODING_FLAC: Encoding
ENCODING_MP3: Encoding
ENCODING_AAC: Encoding
ENCODING_AMR: Encoding
ENCODING_OPUS: Encoding
ENCODING_G722: Encoding
MODE_UNSPECIFIED: Mode
MODE_SIMPLE: Mode
MODE_SEGMENTED: Mode
WARNING_CODE_UNSPECIFIED: WarningCode
WARNING_CODE_PARTIAL_FRAME: WarningCode
WARNING_CODE_AUDIO_CLAMPED: WarningCode
WARNING_CODE_LAGGING: WarningCode
WARNING_CODE_INTERIMS_SHED: WarningCode
WARNING_CODE_STATE_LOST: WarningCode
ERROR_CODE_UNSPECIFIED: ErrorCode
ERROR_CODE_BAD_REQUEST: ErrorCode
ERROR_CODE_BAD_STATE: ErrorCode
ERROR_CODE_INVALID_FORMAT: ErrorCode
ERROR_CODE_INVALID_AUDIO: ErrorCode
ERROR_CODE_WRONG_FRAME_TYPE: ErrorCode
ERROR_CODE_INVALID_UTF8: ErrorCode
ERROR_CODE_PROTOCOL_ERROR: ErrorCode
ERROR_CODE_MESSAGE_TOO_BIG: ErrorCode
ERROR_CODE_UNAUTHENTICATED: ErrorCode
ERROR_CODE_TOKEN_EXPIRED: ErrorCode
ERROR_CODE_TOKEN_REPLAYED: ErrorCode
ERROR_CODE_FORBIDDEN: ErrorCode
ERROR_CODE_FORBIDDEN_ORIGIN: ErrorCode
ERROR_CODE_START_TIMEOUT: ErrorCode
ERROR_CODE_IDLE_TIMEOUT: ErrorCode
ERROR_CODE_STREAM_TOO_LONG: ErrorCode
ERROR_CODE_TOO_FAST: ErrorCode
ERROR_CODE_RATE_LIMITED: ErrorCode
ERROR_CODE_SLOW_CONSUMER: ErrorCode
ERROR_CODE_MODEL_ERROR: ErrorCode
ERROR_CODE_MODEL_TIMEOUT: ErrorCode
ERROR_CODE_MODEL_CRASHED: ErrorCode
ERROR_CODE_OVERLOADED: ErrorCode
ERROR_CODE_DRAINING: ErrorCode
ERROR_CODE_INTERNAL: ErrorCode
ERROR_CODE_UNKNOWN_MODEL: ErrorCode
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOPPED: FinishReason
FINISH_REASON_RESTARTED: FinishReason
FINISH_REASON_DRAINED: FinishReason

class ClientMessage(_message.Message):
    __slots__ = ("start", "audio", "flush", "stop", "keepalive", "auth", "clear")
    START_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    FLUSH_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    KEEPALIVE_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    start: Start
    audio: bytes
    flush: Flush
    stop: Stop
    keepalive: KeepAlive
    auth: Auth
    clear: Clear
    def __init__(self, start: _Optional[_Union[Start, _Mapping]] = ..., audio: _Optional[bytes] = ..., flush: _Optional[_Union[Flush, _Mapping]] = ..., stop: _Optional[_Union[Stop, _Mapping]] = ..., keepalive: _Optional[_Union[KeepAlive, _Mapping]] = ..., auth: _Optional[_Union[Auth, _Mapping]] = ..., clear: _Optional[_Union[Clear, _Mapping]] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("started", "speech_started", "speech_ended", "segment", "ack", "flushed", "warning", "error", "draining", "finished", "audio", "audio_started", "audio_ended", "cleared")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    SPEECH_STARTED_FIELD_NUMBER: _ClassVar[int]
    SPEECH_ENDED_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    FLUSHED_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    AUDIO_STARTED_FIELD_NUMBER: _ClassVar[int]
    AUDIO_ENDED_FIELD_NUMBER: _ClassVar[int]
    CLEARED_FIELD_NUMBER: _ClassVar[int]
    started: Started
    speech_started: SpeechStarted
    speech_ended: SpeechEnded
    segment: Segment
    ack: Ack
    flushed: Flushed
    warning: Warning
    error: Error
    draining: Draining
    finished: Finished
    audio: AudioChunk
    audio_started: AudioStarted
    audio_ended: AudioEnded
    cleared: Cleared
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., speech_started: _Optional[_Union[SpeechStarted, _Mapping]] = ..., speech_ended: _Optional[_Union[SpeechEnded, _Mapping]] = ..., segment: _Optional[_Union[Segment, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., flushed: _Optional[_Union[Flushed, _Mapping]] = ..., warning: _Optional[_Union[Warning, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., draining: _Optional[_Union[Draining, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., audio: _Optional[_Union[AudioChunk, _Mapping]] = ..., audio_started: _Optional[_Union[AudioStarted, _Mapping]] = ..., audio_ended: _Optional[_Union[AudioEnded, _Mapping]] = ..., cleared: _Optional[_Union[Cleared, _Mapping]] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("format", "mode", "interim_results", "interim_interval_ms", "chunk_ms", "vad", "traceparent", "tracestate", "metadata", "options", "token", "audio_out")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    INTERIM_RESULTS_FIELD_NUMBER: _ClassVar[int]
    INTERIM_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_MS_FIELD_NUMBER: _ClassVar[int]
    VAD_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    AUDIO_OUT_FIELD_NUMBER: _ClassVar[int]
    format: AudioFormat
    mode: Mode
    interim_results: bool
    interim_interval_ms: int
    chunk_ms: int
    vad: VadOverrides
    traceparent: str
    tracestate: str
    metadata: _containers.ScalarMap[str, str]
    options: _struct_pb2.Struct
    token: str
    audio_out: AudioOutFormat
    def __init__(self, format: _Optional[_Union[AudioFormat, _Mapping]] = ..., mode: _Optional[_Union[Mode, str]] = ..., interim_results: bool = ..., interim_interval_ms: _Optional[int] = ..., chunk_ms: _Optional[int] = ..., vad: _Optional[_Union[VadOverrides, _Mapping]] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., options: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., token: _Optional[str] = ..., audio_out: _Optional[_Union[AudioOutFormat, _Mapping]] = ...) -> None: ...

class AudioOutFormat(_message.Message):
    __slots__ = ("encoding", "sample_rate", "unpaced")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    UNPACED_FIELD_NUMBER: _ClassVar[int]
    encoding: Encoding
    sample_rate: int
    unpaced: bool
    def __init__(self, encoding: _Optional[_Union[Encoding, str]] = ..., sample_rate: _Optional[int] = ..., unpaced: bool = ...) -> None: ...

class AudioFormat(_message.Message):
    __slots__ = ("encoding", "sample_rate", "channels", "downmix")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    DOWNMIX_FIELD_NUMBER: _ClassVar[int]
    encoding: Encoding
    sample_rate: int
    channels: int
    downmix: bool
    def __init__(self, encoding: _Optional[_Union[Encoding, str]] = ..., sample_rate: _Optional[int] = ..., channels: _Optional[int] = ..., downmix: bool = ...) -> None: ...

class VadOverrides(_message.Message):
    __slots__ = ("positive_speech_threshold", "negative_speech_threshold", "pre_speech_pad_ms", "post_speech_pad_ms", "redemption_time_ms", "min_speech_time_ms", "max_speech_time_ms")
    POSITIVE_SPEECH_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_SPEECH_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    PRE_SPEECH_PAD_MS_FIELD_NUMBER: _ClassVar[int]
    POST_SPEECH_PAD_MS_FIELD_NUMBER: _ClassVar[int]
    REDEMPTION_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    MIN_SPEECH_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_SPEECH_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    positive_speech_threshold: float
    negative_speech_threshold: float
    pre_speech_pad_ms: float
    post_speech_pad_ms: float
    redemption_time_ms: float
    min_speech_time_ms: float
    max_speech_time_ms: float
    def __init__(self, positive_speech_threshold: _Optional[float] = ..., negative_speech_threshold: _Optional[float] = ..., pre_speech_pad_ms: _Optional[float] = ..., post_speech_pad_ms: _Optional[float] = ..., redemption_time_ms: _Optional[float] = ..., min_speech_time_ms: _Optional[float] = ..., max_speech_time_ms: _Optional[float] = ...) -> None: ...

class Flush(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class Stop(_message.Message):
    __slots__ = ("keep_open",)
    KEEP_OPEN_FIELD_NUMBER: _ClassVar[int]
    keep_open: bool
    def __init__(self, keep_open: bool = ...) -> None: ...

class Clear(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class KeepAlive(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Auth(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("session_id", "mode", "model", "limits", "traceparent", "audio_out")
    class LimitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    AUDIO_OUT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    mode: Mode
    model: Model
    limits: _containers.ScalarMap[str, float]
    traceparent: str
    audio_out: AudioOutInfo
    def __init__(self, session_id: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., limits: _Optional[_Mapping[str, float]] = ..., traceparent: _Optional[str] = ..., audio_out: _Optional[_Union[AudioOutInfo, _Mapping]] = ...) -> None: ...

class AudioOutInfo(_message.Message):
    __slots__ = ("encoding", "sample_rate", "channels", "latency_ms")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    encoding: Encoding
    sample_rate: int
    channels: int
    latency_ms: float
    def __init__(self, encoding: _Optional[_Union[Encoding, str]] = ..., sample_rate: _Optional[int] = ..., channels: _Optional[int] = ..., latency_ms: _Optional[float] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "sample_rate")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    sample_rate: int
    def __init__(self, name: _Optional[str] = ..., sample_rate: _Optional[int] = ...) -> None: ...

class SpeechStarted(_message.Message):
    __slots__ = ("channel", "time")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    channel: int
    time: float
    def __init__(self, channel: _Optional[int] = ..., time: _Optional[float] = ...) -> None: ...

class SpeechEnded(_message.Message):
    __slots__ = ("channel", "time")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    channel: int
    time: float
    def __init__(self, channel: _Optional[int] = ..., time: _Optional[float] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("channel", "segment_id", "start_time", "end_time", "is_final", "output", "value")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_ID_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    channel: int
    segment_id: int
    start_time: float
    end_time: float
    is_final: bool
    output: _struct_pb2.Struct
    value: _struct_pb2.Value
    def __init__(self, channel: _Optional[int] = ..., segment_id: _Optional[int] = ..., start_time: _Optional[float] = ..., end_time: _Optional[float] = ..., is_final: bool = ..., output: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("received", "committed")
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    received: int
    committed: int
    def __init__(self, received: _Optional[int] = ..., committed: _Optional[int] = ...) -> None: ...

class Flushed(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class Warning(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: WarningCode
    message: str
    def __init__(self, code: _Optional[_Union[WarningCode, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "fatal", "retryable", "channel", "start_time", "end_time", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FATAL_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    message: str
    fatal: bool
    retryable: bool
    channel: int
    start_time: float
    end_time: float
    retry_after_ms: int
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., message: _Optional[str] = ..., fatal: bool = ..., retryable: bool = ..., channel: _Optional[int] = ..., start_time: _Optional[float] = ..., end_time: _Optional[float] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Draining(_message.Message):
    __slots__ = ("deadline_ms",)
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    deadline_ms: int
    def __init__(self, deadline_ms: _Optional[int] = ...) -> None: ...

class AudioChunk(_message.Message):
    __slots__ = ("channel", "segment_id", "data")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    channel: int
    segment_id: int
    data: bytes
    def __init__(self, channel: _Optional[int] = ..., segment_id: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class AudioStarted(_message.Message):
    __slots__ = ("channel", "segment_id", "start_time")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_ID_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    channel: int
    segment_id: int
    start_time: float
    def __init__(self, channel: _Optional[int] = ..., segment_id: _Optional[int] = ..., start_time: _Optional[float] = ...) -> None: ...

class AudioEnded(_message.Message):
    __slots__ = ("channel", "segment_id", "frames")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_ID_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    channel: int
    segment_id: int
    frames: int
    def __init__(self, channel: _Optional[int] = ..., segment_id: _Optional[int] = ..., frames: _Optional[int] = ...) -> None: ...

class Cleared(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: int
    def __init__(self, frames: _Optional[int] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("reason", "received", "processed", "segments", "failed")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    PROCESSED_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    reason: FinishReason
    received: int
    processed: int
    segments: int
    failed: int
    def __init__(self, reason: _Optional[_Union[FinishReason, str]] = ..., received: _Optional[int] = ..., processed: _Optional[int] = ..., segments: _Optional[int] = ..., failed: _Optional[int] = ...) -> None: ...
