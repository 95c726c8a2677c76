// Speak to the server: microphone or file -> 20 ms of PCM, or 100 ms of Opus, at a time -> /api/v2, and its events on the
// page.

const by = (id) => document.getElementById(id);
const seconds = (value) => `${value.toFixed(1)} s`;
const WINDOW_S = 12; // shown of the past

let run = null; // the stream that is open

function say(text, failed = false) {
  by("state").textContent = text;
  by("state").classList.toggle("error", failed);
}

async function describe() {
  const answer = await fetch("api/v2/info");
  if (!answer.ok) return; // it may need a token
  const info = await answer.json();
  by("served").textContent = `${info.model.name} at ${info.model.sample_rate / 1000} kHz, version ${info.version}`;
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
  if (!ready) return "The server does not answer.";
  if (ready.ok) return "The server refused the connection: is a token asked for?";
  return `The server is not ready: ${(await ready.json()).reason}.`;
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
    this.rate = context.sampleRate;
    this.frames = 0;
    this.peaks = []; // one per 20 ms
    this.speech = []; // [start, end or null] in seconds
    this.interim = null;
    this.began = null; // when the audio at time 0 was spoken
  }

  async open(stopTracks) {
    this.stopTracks = stopTracks;
    const url = new URL(`api/v2/${by("mode").value}`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url, protocols(by("token").value));
    this.socket.onmessage = ({ data }) => this.hear(JSON.parse(data));
    await new Promise((resolve, reject) => {
      this.socket.onopen = resolve;
      this.socket.onerror = async () => reject(new Error(await whyRefused()));
    });
    this.socket.onclose = ({ code, reason }) => this.closed(code, reason);
    const compressed = by("coding").value === "opus";
    const format = compressed
      ? { encoding: "auto", downmix: true }
      : { encoding: "pcm_s16le", sample_rate: this.rate, channels: 1 };
    if (compressed) this.record();
    this.socket.send(JSON.stringify({ type: "start", format, interim_results: by("interims").checked }));
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
      started: () => say("Listening."),
      speech_started: () => { this.speech.push([event.time, null]); say("Speech …"); },
      speech_ended: () => { if (this.speech.length) this.speech.at(-1)[1] = event.time; say("Listening."); },
      segment: () => this.show(event),
      ack: () => { by("committed").textContent = seconds(event.committed / this.sampleRate(event)); },
      warning: () => say(event.message),
      error: () => this.fail(event),
      draining: () => say("The server is going away; reconnect soon."),
      finished: () => {
        const rate = this.sampleRate(event);
        by("committed").textContent = seconds(event.processed / rate);
        say(`Done: ${event.segments} results, ${seconds(event.received / rate)} received, nothing lost.`);
      },
    }[event.type];
    act?.();
  }

  // Hz at which the server counts: of compressed audio that is its decoder's choice, so it is read off what came.
  sampleRate({ received }) {
    return this.recorder ? Math.max(1, received / Math.max(this.time, 0.1)) : this.rate;
  }

  show(event) {
    this.interim ??= by("results").appendChild(document.createElement("li"));
    const output = event.output;
    const text = typeof output?.text === "string" ? output.text : JSON.stringify(output);
    const time = document.createElement("time");
    time.textContent = `${event.start_time.toFixed(2)} – ${event.end_time.toFixed(2)} s`;
    const words = document.createElement("span");
    words.textContent = event.is_final ? text || "(nothing)" : `${text} …`;
    words.className = event.is_final ? "" : "interim";
    this.interim.replaceChildren(time, words);
    this.interim.scrollIntoView({ block: "nearest" });
    if (event.is_final) {
      this.interim = null;
      const late = performance.now() - this.began - 1000 * event.end_time;
      by("latency").textContent = `${Math.max(0, Math.round(late))} ms`;
    }
  }

  fail(event) {
    say(`${event.code}: ${event.message}`, true);
    if (event.fatal) return;
    this.interim ??= by("results").appendChild(document.createElement("li"));
    this.interim.textContent = event.message;
    this.interim.className = "error";
    this.interim = null;
  }

  closed(code, reason) {
    this.source.disconnect();
    this.stopTracks?.();
    if (this.context.state !== "closed") this.context.close();
    if (code !== 1000) say(`The connection was closed (${code} ${reason || "without a word"}).`, true);
    if (run === this) end();
  }
}

function end() {
  run = null;
  by("speak").textContent = "Speak";
  by("speak").classList.remove("live");
}

async function begin(makeSource) {
  run?.stop();
  by("results").replaceChildren();
  for (const id of ["latency", "first"]) by(id).textContent = "–";
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
    say(error.message, true);
  }
}

async function microphone(context) {
  if (!navigator.mediaDevices) throw new Error("a browser gives the microphone to https and localhost only");
  const media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  return { source: context.createMediaStreamSource(media), stopTracks: () => media.getTracks().forEach((t) => t.stop()) };
}

const recording = (file) => async (context) => {
  const source = context.createBufferSource();
  source.buffer = await context.decodeAudioData(await file.arrayBuffer());
  source.connect(context.destination);
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
  }
  requestAnimationFrame(draw);
}

by("speak").onclick = () => (run ? run.stop() : begin(microphone));
by("file").onchange = ({ target }) => target.files[0] && begin(recording(target.files[0]));
describe().catch(() => say("The server does not answer.", true));
draw();
