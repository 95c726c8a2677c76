"""The page in a real Chromium: what its microphone hears is streamed, as PCM and as its MediaRecorder makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.app import App
from streamer.config import Settings
from streamer.samples import sample
from tests.browser import CHROMIUM, browsing
from tests.transports.several import serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]
WATCH = """{
  const send = WebSocket.prototype.send;
  window.heard = [];
  window.bytes = 0;
  WebSocket.prototype.send = function (message) {
    if (!this.isWatched) this.addEventListener("message", ({ data }) => window.heard.push(JSON.parse(data)));
    this.isWatched = true;
    window.bytes += message.size ?? message.byteLength ?? 0;
    return send.call(this, message);
  };
}"""
ONLY_MP4 = """{
  const supported = MediaRecorder.isTypeSupported.bind(MediaRecorder);
  MediaRecorder.isTypeSupported = (kind) => kind.includes("mp4") && supported(kind);
}"""


async def spoken(model: str, coding: str) -> tuple[list[str], int]:
    """Let the page stream its microphone to a model; return the finals, and the bytes that it sent."""
    settings = Settings(server={"port": 0, "model": model}, grpc={"port": 0})
    async with App(settings) as app, browsing(f"{app.url}/", Path(str(sample()))) as browser:
        await browser.run(WATCH)
        if coding != "PCM":
            await browser.run("document.getElementById('coding').value = 'opus'")
        if coding == "MP4":
            await browser.run(ONLY_MP4)
        await browser.run("document.getElementById('speak').click()")
        await browser.until("parseFloat(document.getElementById('sent').textContent) > 8")
        await browser.run("document.getElementById('speak').click()")
        await browser.until("window.heard.at(-1).type === 'finished'")
        events = await browser.run("window.heard")
        sent_bytes = await browser.run("window.bytes")
    assert not [event for event in events if event["type"] == "error"]
    finals = [event["output"]["text"] for event in events if event["type"] == "segment" and event["is_final"]]
    return finals, sent_bytes


@pytest.mark.parametrize("coding", ["PCM", "WebM", "MP4"])
async def test_a_browser_is_understood_live(coding: str) -> None:
    pytest.importorskip("pocketsphinx")
    finals, sent_bytes = await spoken("pocketsphinx", coding)
    assert {"weather", "kitchen"} <= set(" ".join(finals).split())
    assert (sent_bytes < 8 * 16_000) == (coding != "PCM")


@pytest.mark.parametrize("coding", ["PCM", "WebM"])
async def test_a_browser_gets_sentences(coding: str) -> None:
    pytest.importorskip("moonshine_voice", reason="pip install moonshine-voice==0.0.73")
    finals, _ = await spoken("moonshine", coding)
    assert finals[1] == "Please turn on the light in the kitchen."  # the first one begins with the capture itself


async def test_the_page_offers_several_models_and_streams_to_the_chosen_one() -> None:
    async with serving() as app, browsing(f"{app.url}/", Path(str(sample()))) as browser:
        await browser.run(WATCH)
        await browser.until("document.getElementById('model').options.length === 2")
        for model, rate in (("", "english at 16 kHz"), ("any", "any at 8 kHz"), ("english", "english at 16 kHz")):
            if model:
                await browser.run(f"document.getElementById('model').value = '{model}'")
                await browser.run("document.getElementById('model').onchange()")
            assert rate in await browser.run("document.getElementById('served').textContent")
            await browser.run("document.getElementById('speak').click()")
            await browser.until("window.heard.at(-1)?.type === 'started'")
            assert await browser.run("window.heard.at(-1).model.name") == (model or "english")
            await browser.run("document.getElementById('speak').click()")
            await browser.until("window.heard.at(-1).type === 'finished'")
            await browser.run("window.heard.length = 0")


async def test_a_server_with_one_model_has_no_list_of_models_on_its_page() -> None:
    settings = Settings(server={"port": 0}, grpc={"port": 0})
    async with App(settings) as app, browsing(f"{app.url}/", Path(str(sample()))) as browser:
        await browser.until("document.getElementById('served').textContent.startsWith('stub')")
        assert await browser.run("document.getElementById('model').parentElement.checkVisibility()") is False


LOUDSPEAKER = """(async () => {
  const context = new OfflineAudioContext(1, 48000, 48000);
  await context.audioWorklet.addModule("page/playback.js");
  const node = new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
  node.connect(context.destination);
  context.suspend(0.1).then(async () => {
    for (const message of MESSAGES) node.port.postMessage(message);
    await context.audioWorklet.addModule("page/capture.js"); // on the same thread, so the messages have arrived
    context.resume();
  });
  const heard = (await context.startRendering()).getChannelData(0);
  return heard.filter((sample) => sample !== 0).length;
})()"""


@pytest.mark.parametrize(("messages", "heard"), [
    ("[new Float32Array(480).fill(1)]", 0),  # in the jitter buffer of 40 ms: more may follow
    ("[new Float32Array(480).fill(1), 'end']", 480),
    ("[new Float32Array(480).fill(1), 'end', new Float32Array(480).fill(1)]", 0),
    ("[new Float32Array(4800).fill(1)]", 4_800),
    ("[new Float32Array(4800).fill(1), 'clear', 'end']", 0),
])  # fmt: skip
async def test_the_end_of_an_answer_is_heard_however_short_it_is(messages: str, heard: int) -> None:
    settings = Settings(server={"port": 0}, grpc={"port": 0})
    async with App(settings) as app, browsing(f"{app.url}/", Path(str(sample()))) as browser:
        assert await browser.run(LOUDSPEAKER.replace("MESSAGES", messages)) == heard
