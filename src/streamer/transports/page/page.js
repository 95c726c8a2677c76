// Speak to the server: microphone or file -> 20 ms of PCM, or 100 ms of Opus, at a time -> /api/v2, and its events on the
// page.

import { Hearing } from "./hearing.js";
import { browserError, closing, ending, outputText, refusal, seconds } from "./words.js";

const by = (id) => document.getElementById(id);
const WINDOW_S = 12; // shown of the past
const MAX_ROWS = 200; // results that stay on the page
// The browser's filters are made for calls, and change words for a recogniser.
const UNFILTERED = { channelCount: 1, noiseSuppression: false, autoGainControl: false };

let run = null; // the stream that is open
let hasAudioOut = false; // the model answers with audio
let chosen = ""; // one of several models; empty: the server's choice

function say(text, failed = false) {
  by("state").textContent = text;
  by("state").classList.toggle("error", failed);
}

async function describe() {
  const answer = await fetch("api/v2/info");
  if (!answer.ok) return; // it may need a token
  const { model, models = [], version } = await answer.json();
  const select = by("model");
  select.replaceChildren(...models.map(({ name }) => new Option(name, name, false, name === model.name)));
  select.parentElement.hidden = models.length < 2;
  select.onchange = () => {
    chosen = select.value;
    present(models.find(({ name }) => name === chosen), version);
  };
  present(model, version);
}

function present(model, version) {
  hasAudioOut = Boolean(model.output_sample_rate);
  for (const part of document.querySelectorAll(".out")) part.hidden = !hasAudioOut;
  by("served").textContent = `${model.name} at ${model.sample_rate / 1000} kHz, version ${version}`;
}

// A browser sets no headers on a WebSocket: a token travels beside the subprotocol.
function protocols(token) {
  if (!token) return ["streamer.v2"];
  const bytes = String.fromCharCode(...new TextEncoder().encode(token));
  const encoded = btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return ["streamer.v2", `streamer.bearer.${encoded}`];
}

// A browser is not told why a WebSocket was refused.
async function whyRefused() {
  const ready = await fetch("readyz").catch(() => null);
  return refusal(ready) || `The server is not ready: ${(await ready.json()).reason}. Try again in a moment.`;
}

// What this browser can record, best first: WebM comes 300 ms earlier than MP4.
function recordable() {
  const kinds = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4"];
  const kind = globalThis.MediaRecorder && kinds.find((name) => MediaRecorder.isTypeSupported(name));
  if (!kind) throw new Error("this browser records no compressed audio: choose PCM");
  return kind;
}

class Run {
  constructor(context, source) {
    this.context = context;
    this.source = source;
    this.monitor = new GainNode(context); // the input at the loudspeaker
    this.source.connect(this.monitor).connect(context.destination);
    this.rate = context.sampleRate;
    this.frames = 0;
    this.peaks = []; // one per 20 ms
    this.speech = []; // [start, end or null] in seconds
    this.interim = null;
    this.began = null; // when the audio at time 0 was spoken
  }

  async open(stopTracks) {
    this.stopTracks = stopTracks;
    const place = chosen && `models/${chosen}/`;
    const url = new URL(`api/v2/${place}${by("mode").value}`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url, protocols(by("token").value));
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => (typeof data === "string" ? this.hear(JSON.parse(data)) : this.hearing?.take(data));
    await new Promise((resolve, reject) => {
      this.socket.onopen = resolve;
      this.socket.onerror = async () => reject(new Error(await whyRefused()));
    });
    this.socket.onclose = ({ code, reason }) => this.closed(code, reason);
    if (hasAudioOut) {
      this.hearing = new Hearing(this);
      await this.hearing.open();
    }
    this.listen();
    const compressed = by("coding").value === "opus";
    const format = compressed
      ? { encoding: "auto", downmix: true }
      : { encoding: "pcm_s16le", sample_rate: this.rate, channels: 1 };
    if (compressed) this.record();
    const audio_out = this.hearing?.wanted;
    this.socket.send(JSON.stringify({ type: "start", format, interim_results: by("interims").checked, audio_out }));
    await this.context.audioWorklet.addModule("page/capture.js");
    this.node = new AudioWorkletNode(this.context, "capture", { numberOfOutputs: 0 });
    this.node.port.onmessage = ({ data }) => this.send(data);
    this.source.connect(this.node);
  }

  // The samples are drawn all the same, and only the recording is sent.
  record() {
    const sink = new MediaStreamAudioDestinationNode(this.context, { channelCount: 1 });
    this.recorder = new MediaRecorder(sink.stream, { mimeType: recordable(), audioBitsPerSecond: 32000 });
    this.recorder.ondataavailable = ({ data }) => this.put(data);
    this.recorder.onstop = () => this.put(JSON.stringify({ type: "stop" }));
    this.source.connect(sink);
    this.recorder.start(100);
  }

  put(message) {
    if (this.socket.readyState === WebSocket.OPEN && (message.size ?? message.length)) this.socket.send(message);
  }

  send(chunk) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.began ??= performance.now() - (1000 * chunk.length) / this.rate;
    if (!this.recorder) this.socket.send(chunk);
    this.frames += chunk.length;
    let peak = 0;
    for (const sample of chunk) peak = Math.max(peak, Math.abs(sample));
    this.peaks.push(peak / 32768);
    if (this.peaks.length > WINDOW_S * 50) this.peaks.shift();
    by("sent").textContent = seconds(this.time);
  }

  get time() {
    return this.frames / this.rate;
  }

  // Switch between output and input. Unless it is chosen, a microphone is not heard, since it would hear itself.
  listen() {
    const isFile = !this.source.mediaStream;
    const chosen = hasAudioOut ? by("listen").value : isFile ? "input" : "nothing";
    this.hearing?.listen(chosen === "output");
    this.monitor.gain.value = chosen === "input" ? 1 : 0;
  }

  stop() {
    this.source.disconnect();
    this.stopTracks();
    if (this.recorder) this.recorder.stop(); // its last piece comes first, then the stop
    else this.put(JSON.stringify({ type: "stop" }));
    say("Finishing …");
  }

  hear(event) {
    if (this.began !== null && by("first").textContent === "–" && /speech|segment/.test(event.type)) {
      by("first").textContent = `after ${seconds((performance.now() - this.began) / 1000)}`;
    }
    const act = {
      started: () => { this.hearing?.started(event); say("Listening."); },
      audio_started: () => this.hearing?.answer(true),
      audio_ended: () => this.hearing?.answer(false),
      speech_started: () => { this.hearing?.interrupt(); this.speech.push([event.time, null]); say("Speech …"); },
      speech_ended: () => { if (this.speech.length) this.speech.at(-1)[1] = event.time; say("Listening."); },
      segment: () => this.show(event),
      ack: () => { by("committed").textContent = seconds(event.committed / this.sampleRate(event)); },
      warning: () => say(event.message),
      error: () => this.fail(event),
      draining: () => say("The server is going away; reconnect soon."),
      finished: () => {
        this.hearing?.end();
        const rate = this.sampleRate(event);
        by("committed").textContent = seconds(event.processed / rate);
        const { text, failed } = ending(event, rate);
        say(text, failed);
      },
    }[event.type];
    act?.();
  }

  // Hz at which the server counts: of compressed audio that is its decoder's choice, so it is read off what came.
  sampleRate({ received }) {
    return this.recorder ? Math.max(1, received / Math.max(this.time, 0.1)) : this.rate;
  }

  show(event) {
    const text = outputText(event.output);
    if (!text) {
      if (event.is_final) this.dropInterim();
      return;
    }
    this.interim ??= row();
    const time = document.createElement("time");
    time.textContent = `${event.start_time.toFixed(2)} – ${event.end_time.toFixed(2)} s`;
    const words = document.createElement("span");
    words.textContent = event.is_final ? text : `${text} …`;
    words.className = event.is_final ? "" : "interim";
    this.interim.replaceChildren(time, words);
    scrollDown();
    if (event.is_final) {
      this.interim = null;
      const late = performance.now() - this.began - 1000 * event.end_time;
      by("latency").textContent = `${Math.max(0, Math.round(late))} ms`;
    }
  }

  fail(event) {
    say(event.fatal ? `The server ended the stream: ${event.message} (${event.code}).` : `A segment failed: ${event.message}.`, true);
    if (event.fatal) return;
    this.interim ??= row();
    const time = document.createElement("time");
    if (event.start_time !== undefined) time.textContent = `${event.start_time.toFixed(2)} – ${event.end_time.toFixed(2)} s`;
    const words = document.createElement("span");
    words.textContent = event.message;
    this.interim.replaceChildren(time, words);
    this.interim.className = "error";
    this.interim = null;
    scrollDown();
  }

  dropInterim() {
    this.interim?.remove();
    this.interim = null;
  }

  closed(code, reason) {
    this.source.disconnect();
    this.stopTracks?.();
    const rest = this.hearing ? 1500 : 0; // what was sent last is still to be heard
    setTimeout(() => this.context.state !== "closed" && this.context.close(), rest);
    if (code !== 1000) say(closing(code, reason), true);
    if (run === this) end();
  }
}

function row() {
  const results = by("results");
  while (results.children.length >= MAX_ROWS) results.firstChild.remove();
  return results.appendChild(document.createElement("li"));
}

// Scrolls the list alone, so that the controls stay in sight.
function scrollDown() {
  by("results").scrollTop = by("results").scrollHeight;
}

function end() {
  run = null;
  by("speak").textContent = "Speak";
  by("speak").classList.remove("live");
}

async function begin(makeSource, fileName) {
  run?.stop();
  by("results").replaceChildren();
  for (const id of ["latency", "first"]) by(id).textContent = "–";
  for (const id of ["sent", "committed"]) by(id).textContent = seconds(0);
  say("Starting …");
  const context = new AudioContext();
  try {
    const { source, stopTracks } = await makeSource(context);
    run = new Run(context, source);
    await run.open(stopTracks);
    by("speak").textContent = "Stop";
    by("speak").classList.add("live");
  } catch (error) {
    context.close();
    end();
    say(browserError(error, fileName), true);
  }
}

async function microphone(context) {
  if (!navigator.mediaDevices) throw new Error("Browsers give the microphone to pages from https or localhost only. Open this page so, or play a file.");
  const media = await navigator.mediaDevices.getUserMedia({ audio: { ...UNFILTERED, echoCancellation: hasAudioOut } });
  return { source: context.createMediaStreamSource(media), stopTracks: () => media.getTracks().forEach((t) => t.stop()) };
}

const recording = (file) => async (context) => {
  const source = context.createBufferSource();
  source.buffer = await context.decodeAudioData(await file.arrayBuffer());
  source.onended = () => run?.source === source && run.stop();
  source.start();
  return { source, stopTracks: () => source.stop() };
};

function draw() {
  const canvas = by("wave");
  const { width, height } = canvas;
  const paint = canvas.getContext("2d");
  const accent = getComputedStyle(canvas).color;
  paint.clearRect(0, 0, width, height);
  if (run) {
    const end = run.time;
    const x = (time) => width * (1 - (end - time) / WINDOW_S);
    paint.fillStyle = accent;
    paint.globalAlpha = 0.15;
    for (const [from, to] of run.speech) paint.fillRect(x(from), 0, x(to ?? end) - x(from), height);
    paint.globalAlpha = 1;
    const step = width / (WINDOW_S * 50);
    run.peaks.forEach((peak, index) => {
      const tall = Math.max(1, peak * height * 0.95);
      paint.fillRect(width - (run.peaks.length - index) * step, (height - tall) / 2, Math.max(1, step - 0.5), tall);
    });
    run.hearing?.draw(by("heard"), end, WINDOW_S);
  }
  requestAnimationFrame(draw);
}

by("listen").onchange = () => run?.listen();
by("speak").onclick = () => (run ? run.stop() : begin(microphone));
by("file").onchange = ({ target }) => {
  const [file] = target.files;
  target.value = ""; // so that the same file can be chosen again
  if (file) begin(recording(file), file.name);
};
describe().catch(() => say(refusal(null), true));
draw();
