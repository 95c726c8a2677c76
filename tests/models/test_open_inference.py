"""Models on an inference server: what is sent, what comes back, and what each failure becomes."""

from __future__ import annotations

import importlib.util

import grpc
import pytest

from streamer.errors import ConfigError, ErrorCode, ModelLoadError
from streamer.models.loading import ModelSpec
from streamer.models.pb import open_inference_pb2 as pb
from streamer.session.actions import JobFailed, Output
from tests.inference.harness import Outcomes, job, running
from tests.models.inference_server import InferenceServer


def spec(server, name="open_inference", **parameters):
    return ModelSpec(name, {"url": server.url, "model": "counter", **parameters})


async def outcomes(server, jobs, name="open_inference", **parameters):
    got = Outcomes()
    async with running(spec(server, name, workers=1, **parameters)) as engine:
        del server.requests[:], server.metadata[:]
        for each in jobs:
            got.submit(engine, each)
        return await got.wait_all([(each.session_id, each.id) for each in jobs])


def decoded(found):
    assert all(isinstance(each, Output) for each in found), found
    return [each.decode() for each in found]


async def test_each_item_is_a_request_of_its_own_which_the_server_may_join():
    with InferenceServer() as server:
        jobs = [job(0, f"s{n}", n=100 + n) for n in range(5)]
        assert decoded(await outcomes(server, jobs)) == [100, 101, 102, 103, 104]
        assert sorted(list(one.inputs[0].shape) for one in server.requests) == [[1, 100 + n] for n in range(5)]


async def test_a_batch_is_one_request_with_lengths_if_it_is_ours():
    with InferenceServer() as server:
        server.inputs["lengths"] = ("INT32", [-1, 1])
        jobs = [job(0, f"s{n}", n=100 + n) for n in range(3)]
        answers = await outcomes(
            server, jobs, lengths="lengths", batching="ours", max_batch_wait_ms=500.0, max_batch_size=3
        )
        assert decoded(answers) == [100, 101, 102]
        [request] = server.requests
        assert [list(tensor.shape) for tensor in request.inputs] == [[3, 102], [3, 1]]


async def test_a_model_without_a_batch_dimension_gets_single_items():
    with InferenceServer(batched=False) as server:
        assert decoded(await outcomes(server, [job(0, n=100)])) == [100]
        assert list(server.requests[0].inputs[0].shape) == [100]


async def test_an_empty_piece_is_sent_too():
    with InferenceServer() as server:
        server.inputs["lengths"] = ("INT64", [-1])
        assert decoded(await outcomes(server, [job(0, n=0)], lengths="lengths")) == [0]


@pytest.mark.parametrize("typed", [False, True])
async def test_several_outputs_come_by_name_and_one_comes_alone(typed):
    with InferenceServer(outputs=("count", "text")) as server:
        server.typed = typed
        assert decoded(await outcomes(server, [job(0, n=7)])) == [{"count": 7, "text": "7 Töne"}]
        assert decoded(await outcomes(server, [job(0, n=7)], outputs=["text"])) == ["7 Töne"]


async def test_headers_and_times_are_sent():
    with InferenceServer() as server:
        parameters = {"headers": {"authorization": "Bearer x"}, "queue_timeout_ms": 1500}
        await outcomes(server, [job(0)], **parameters)
        assert server.metadata[0]["authorization"] == "Bearer x"
        assert server.requests[0].parameters["timeout"].int64_param == 1_500_000


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ErrorCode.OVERLOADED),
        (grpc.StatusCode.UNAVAILABLE, ErrorCode.OVERLOADED),
        (grpc.StatusCode.INTERNAL, ErrorCode.MODEL_ERROR),
    ],
)
async def test_an_error_of_the_server_fails_its_item_once(status, code):
    with InferenceServer() as server:
        got = Outcomes()
        async with running(spec(server, workers=1)) as engine:
            del server.requests[:]
            server.fails.append((status, "secret words"))
            got.submit(engine, job(0, "a"))
            failed = await got.wait(0, "a")
            got.submit(engine, job(0, "b"))
            assert isinstance(await got.wait(0, "b"), Output)
        assert isinstance(failed, JobFailed)
        assert failed.code is code
        assert "secret" not in failed.message
        assert len(server.requests) == 2


async def test_a_server_that_is_slow_is_a_time_out_of_the_item_and_the_worker_lives():
    with InferenceServer() as server:
        got = Outcomes()
        async with running(spec(server, workers=1, timeout_floor_s=1.0, timeout_factor=0.0)) as engine:
            server.hold.clear()
            got.submit(engine, job(0, "a"))
            failed = await got.wait(0, "a")
            server.hold.set()
            got.submit(engine, job(0, "b"))
            assert isinstance(await got.wait(0, "b"), Output)
        assert isinstance(failed, JobFailed)
        assert failed.code is ErrorCode.MODEL_TIMEOUT


async def loading_fails(server, match, name="open_inference", **parameters):
    with pytest.raises(ModelLoadError, match=match):
        async with running(spec(server, name, workers=1, **parameters)):
            pass


async def test_what_does_not_fit_is_named_when_the_model_is_loaded():
    with InferenceServer() as server:
        await loading_fails(server, "NOT_FOUND: unknown model other", model="other")
        await loading_fails(server, r"expected the name of an input, one of audio, got 'sound'", input="sound")
        await loading_fails(server, "input lengths: expected INT32 or INT64 .*, got no such input", lengths="lengths")
        await loading_fails(server, "expected outputs among count, got words", outputs=["words"])
        server.inputs["more"] = ("FP32", [-1, -1])
        await loading_fails(server, "expected model.input, as there are several inputs, one of audio, more")
        server.inputs = {"audio": ("INT16", [-1, -1])}
        await loading_fails(server, r"input audio: expected FP32 \[n\] or FP32 \[batch, n\], got INT16 \[-1, -1\]")
        server.model_is_ready = False
        await loading_fails(server, "the model is not ready")
        server.is_ready = False
        await loading_fails(server, "the server is not ready")
    await loading_fails(server, "UNAVAILABLE")


def test_batches_of_ours_need_lengths():
    with pytest.raises(ConfigError, match=r"model.lengths: expected the name of an input"):
        ModelSpec("open_inference", {"url": "x:1", "model": "m", "batching": "ours"}).load()
    with pytest.raises(ConfigError, match=r"model.batching: expected .*theirs.*ours.*, got 'mine'"):
        ModelSpec("open_inference", {"url": "x:1", "model": "m", "batching": "mine"}).load()


# Sequences ---------------------------------------------------------------------------------------------------------

STREAMING = "open_inference_streaming"


async def test_each_channel_is_a_sequence_that_starts_goes_on_and_ends():
    with InferenceServer(streaming=True) as server:
        got = Outcomes()
        async with running(spec(server, STREAMING, workers=1)) as engine:
            for number in range(3):
                for session in "ab":
                    got.submit(engine, job(number, session, n=10, start=number * 10))
            await got.wait_all([(session, 2) for session in "ab"])
            assert [got.last(number, "a").decode() for number in range(3)] == [10, 20, 30]
            assert got.last(2, "b").decode() == 30
            for session in "ab":
                engine.release(session)
        assert server.sums == {}  # the canary's, too
        ids = {one.parameters["sequence_id"].int64_param for one in server.requests}
        assert len(ids) == 3
        assert all(0 < each < 2**63 for each in ids)


async def test_a_state_that_the_server_has_lost_is_named_and_begins_anew():
    with InferenceServer(streaming=True) as server:
        got = Outcomes()
        async with running(spec(server, STREAMING, workers=1)) as engine:
            got.submit(engine, job(0, n=10))
            assert (await got.wait(0)).decode() == 10
            server.sums.clear()
            got.submit(engine, job(1, n=10, start=10))
            lost = await got.wait(1)
            got.submit(engine, job(2, n=10, start=20))
            assert (await got.wait(2)).decode() == 10
    assert isinstance(lost, JobFailed)
    assert lost.code is ErrorCode.MODEL_CRASHED
    assert "state for this stream was lost on the inference server, processing begins anew" in lost.message


async def test_a_full_server_at_the_start_of_a_sequence_loses_no_state():
    with InferenceServer(streaming=True) as server:
        got = Outcomes()
        async with running(spec(server, STREAMING, workers=1)) as engine:
            server.fails.append((grpc.StatusCode.UNAVAILABLE, "full"))
            got.submit(engine, job(0, n=10))
            failed = await got.wait(0)
            got.submit(engine, job(1, n=10, start=10))
            assert (await got.wait(1)).decode() == 10
    assert failed.code is ErrorCode.OVERLOADED


@pytest.mark.parametrize(("idle_us", "warns"), [(1_000_000, True), (600_000_000, False), (0, False)])
async def test_a_server_that_forgets_soon_is_warned_about(idle_us, warns, caplog):
    with InferenceServer(streaming=True) as server:
        server.idle_us = idle_us
        async with running(spec(server, STREAMING, workers=1)):
            pass
        assert ("forgets a sequence that is idle for 1 s" in caplog.text) is warns
        server.has_config = False
        async with running(spec(server, STREAMING, workers=1)):
            pass


@pytest.mark.skipif(importlib.util.find_spec("tritonclient") is None, reason="pip install --no-deps tritonclient")
def test_the_messages_are_those_of_the_protocol():
    from tritonclient.grpc import service_pb2 as theirs

    for name in ("ModelMetadataResponse", "ModelInferRequest", "ModelInferResponse", "ModelConfigResponse"):
        compare(getattr(pb, name).DESCRIPTOR, getattr(theirs, name).DESCRIPTOR)


def compare(ours, theirs):
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type) == (other.number, other.type)
        if field.message_type is not None:
            compare(field.message_type, other.message_type)
