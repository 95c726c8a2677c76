"""Defaults, file, environment, flags: who wins, and what a wrong value is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamer.config import LoadedSettings, Override, Settings, load
from streamer.errors import ConfigError
from streamer.session.events import Mode

ORIGINAL = {
    "model": {
        "delay": 0.5,
        "constant_factor": 0.3,
        "jitter": 0.2,
        "failure_rate": 0.01,
        "panic_rate": 0.0,
        "warmup_penalty": 10.0,
    }
}


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def refused(file: Path | None = None, environ: dict[str, str] | None = None, *flags: Override) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file, environ=environ or {}, flags=flags)
    message = caught.value.message
    assert "\n" not in message
    return message


def test_defaults_need_no_source() -> None:
    assert load(environ={}).settings == Settings()


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    file = written(tmp_path / "s.toml", "[server]\nhost = 'a'\nport = 1\nmax_sessions = 7\n")
    environ = {"STREAMER_SERVER__HOST": "b", "STREAMER_SERVER__PORT": "2"}
    loaded = load(file, environ=environ, flags=[Override("--port", "server.port", 3)])
    server = loaded.settings.server
    assert (server.host, server.port, server.max_sessions) == ("b", 3, 7)
    assert loaded.origin("server.port") == "--port"
    assert loaded.origin("server.host") == "STREAMER_SERVER__HOST"
    assert loaded.origin("server.max_sessions") == str(file)
    assert loaded.origin("server.retry_after_s") == "default"


def test_the_original_config_is_accepted_as_it_is(tmp_path: Path) -> None:
    file = written(tmp_path / "config.json", json.dumps(ORIGINAL))
    assert load(file, environ={}).settings.model == ORIGINAL["model"]


def test_model_parameters_from_the_environment_are_json_where_they_can_be() -> None:
    environ = {"STREAMER_MODEL__DELAY": "0.5", "STREAMER_MODEL__LANGUAGE": "en"}
    assert load(environ=environ).settings.model == {"delay": 0.5, "language": "en"}


def test_names_that_kubernetes_makes_for_a_service_are_not_settings() -> None:
    environ = {"STREAMER_PORT": "tcp://10.0.0.1:80", "STREAMER_SERVICE_HOST": "10.0.0.1"}
    assert load(environ=environ) == LoadedSettings(Settings(), {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server]\nport = 'abc'", "server.port: expected a valid integer, got 'abc'"),
        ("[server]\nport = 70000", "server.port: expected less than or equal to 65535, got 70000"),
        ("[server]\nport = true", "server.port: expected a number or text, not a boolean, got True"),
        ("[server]\nprot = 1", "server.prot: expected a known setting (did you mean port?), got 1"),
        ("[servre]\nport = 1", "servre: expected a known setting (did you mean server?), got 1"),
        ("server = 3", "server: expected a section, got 3"),
        ("[log]\nlevel = 'loud'", "log.level: expected 'debug', 'info', 'warning' or 'error', got 'loud'"),
        ("[vad]\nredemption_time_ms = -1", "vad.redemption_time_ms: expected a number from 0 to 600000, got -1.0"),
        (
            "[vad]\nnegative_speech_threshold = 0.9",
            "vad.negative_speech_threshold: expected at most positive_speech_threshold (0.5), got 0.9",
        ),
        ("[limits]\nidle_timeout_s = 0", "limits.idle_timeout_s: expected a number above 0, got 0.0"),
        ("[engine]\nmax_pending_items = -1", "engine.max_pending_items: expected a number above 0, got -1"),
        ("[limits]\nmax_channels = 1.5", "limits.max_channels: expected a valid integer, got 1.5"),
        ("[drain]\nlag_s = 30", "drain.lag_s: expected at most drain.soft_s (25), got 30.0"),
        ("[drain]\nsoft_s = 60", "drain.soft_s: expected at most drain.hard_s (40), got 60.0"),
        ("[drain]\nsoft_s = 4", "drain.soft_s: expected at least drain.lag_s (5), got 4.0"),
        ("[drain]\nhard_s = 20", "drain.hard_s: expected at least drain.soft_s (25), got 20.0"),
        ("[drain]\nlag_s = 9\nsoft_s = 8", "drain.lag_s: expected at most drain.soft_s (8), got 9.0"),
        ("port = ", "expected TOML, got Invalid value (at end of document)"),
    ],
)
def test_a_wrong_value_in_a_file_is_told_with_file_key_expected_and_got(tmp_path: Path, text: str, says: str) -> None:
    file = written(tmp_path / "streamer.toml", text)
    message = refused(file)
    assert message.startswith(f"{file}: ")
    assert says in message


def test_times_that_do_not_follow_each_other_are_told_of_the_one_who_set_them() -> None:
    environ = {"STREAMER_DRAIN__HARD_S": "60", "STREAMER_DRAIN__LAG_S": "3"}
    message = refused(None, environ, Override("--set drain.soft_s", "drain.soft_s", 2))
    assert message == "STREAMER_DRAIN__LAG_S: drain.lag_s: expected at most drain.soft_s (2), got 3.0"
    message = refused(None, environ, Override("--set drain.soft_s", "drain.soft_s", 70))
    assert message == "--set drain.soft_s: drain.soft_s: expected at most drain.hard_s (60), got 70.0"
    assert refused(None, {"STREAMER_DRAIN__HARD_S": "1"}).startswith("STREAMER_DRAIN__HARD_S: ")


def test_times_of_a_drain_may_be_the_same() -> None:
    environ = {f"STREAMER_DRAIN__{name}_S": "3" for name in ("LAG", "SOFT", "HARD")}
    assert load(environ=environ).settings.drain.hard_s == 3


def test_a_wrong_variable_is_told_by_its_name() -> None:
    message = refused(None, {"STREAMER_SERVER__PORT": "abc"})
    assert message == "STREAMER_SERVER__PORT: server.port: expected a valid integer, got 'abc'"
    assert refused(None, {"STREAMER_SEVER__PORT": "1"}).startswith("STREAMER_SEVER__PORT: sever: expected a known")


def test_a_wrong_flag_is_told_by_its_name() -> None:
    message = refused(None, {}, Override("--port", "server.port", 70_000))
    assert message.startswith("--port: server.port: expected less than or equal to 65535")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.toml", None, "cannot be read: No such file"),
        ("bad.json", b"{", "expected JSON, got"),
        ("list.json", b"[1]", "expected an object of sections, got [1]"),
        ("latin.toml", b"a = '\xff'", "expected UTF-8 text"),
    ],
)
def test_a_file_that_is_no_settings_file(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    assert says in refused(file)


def test_a_section_maps_to_the_settings_of_a_session() -> None:
    settings = load(environ={"STREAMER_SESSION__STALL_TIMEOUT_S": "0", "STREAMER_VAD__REDEMPTION_TIME_MS": "300"})
    session = settings.settings.for_session(Mode.SIMPLE, model="stub", sample_rate=8_000, stateful=True, max_inflight=2)
    assert (session.mode, session.model_sample_rate, session.stall_timeout_s) == (Mode.SIMPLE, 8_000, 0.0)
    assert session.vad.redemption_time_ms == 300


def test_memory_of_the_server_has_room_for_several_sessions(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text("[server]\nmax_audio_bytes = 150994943\n")
    said = refused(file)
    assert (
        "server.max_audio_bytes: expected at least 9 times limits.max_session_bytes (150994944), got 150994943" in said
    )
    assert str(file) in said
    file.write_text("[server]\nmax_audio_bytes = 150994944\n")
    assert load(file).settings.server.max_audio_bytes == 150_994_944
