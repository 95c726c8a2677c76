"""The processes of the load: all of them start, or none is left."""

import asyncio
import multiprocessing
from dataclasses import replace

import psutil
import pytest

from streamer.audio.files import read_audio
from streamer.loadtest.endpointing import EndpointingModel
from streamer.loadtest.generator import Assignment
from streamer.loadtest.generator_pool import start_generators
from streamer.loadtest.tape import make_tape
from streamer.loadtest.workload import Workload
from streamer.samples import sample
from streamer.session.messages import Start

WORK = Workload(ramp_s=0.1, warmup_s=0.1, seconds=1.0)


@pytest.fixture(scope="module")
def assignment():
    """One stream to a server that is not there."""
    return Assignment(
        url="ws://127.0.0.1:1/api/v2/simple",
        token=None,
        workload=WORK,
        tape=make_tape(WORK, [read_audio(str(sample()))]),
        streams=range(1),
        total_streams=1,
        endpointing=EndpointingModel(),
        start=Start(WORK.format),
        is_simple=True,
        is_stub=True,
    )


def held():
    """Pipes and processes of this process."""
    return psutil.Process().num_fds(), multiprocessing.active_children()


async def test_a_process_that_cannot_be_started_leaves_none_of_those_before_it(assignment):
    async with start_generators([assignment]):  # multiprocessing keeps a helper of its own from the first one on
        pass
    before = held()
    cannot_travel = replace(assignment, token=lambda: None)
    with pytest.raises(Exception, match="local object"):
        async with start_generators([assignment, assignment, cannot_travel]):
            pass
    assert held() == before


async def test_leaving_ends_the_processes_and_lets_the_loop_run_meanwhile(assignment):
    async with start_generators([assignment, assignment]):
        assert len(multiprocessing.active_children()) == 2
        turned = asyncio.Event()
        asyncio.get_running_loop().call_soon(turned.set)
    assert turned.is_set()
    assert not multiprocessing.active_children()
