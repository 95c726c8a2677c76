// Audio out of one stream: heard through a jitter buffer, drawn under the input, interrupted by speech.

export class Hearing {
  constructor(run) {
    this.run = run;
    this.peaks = []; // [time on the axis of the input, peak] per 20 ms
    this.time = 0; // of the next audio on that axis
    this.channels = 1;
    this.isAnswer = false; // an answer of `segmented` is being sent
    this.kept = null; // all samples, if a test wants them
  }

  async open() {
    const { context } = this.run;
    await context.audioWorklet.addModule("page/playback.js");
    this.node = new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    this.gain = new GainNode(context);
    this.node.connect(this.gain).connect(context.destination);
  }

  // What `start` asks for: the rate of the loudspeaker.
  get wanted() {
    return { encoding: "pcm_s16le", sample_rate: this.run.rate };
  }

  started({ audio_out }) {
    this.channels = audio_out?.channels ?? 1;
  }

  // Binary messages: interleaved integers, of which the first channel is heard.
  take(data) {
    const frames = new Int16Array(data);
    const samples = new Float32Array(Math.floor(frames.length / this.channels));
    for (let at = 0; at < samples.length; at++) samples[at] = frames[at * this.channels] / 32768;
    this.kept?.push(samples.slice());
    const step = Math.round(this.run.rate / 50);
    if (this.isAnswer) this.time = Math.max(this.time, this.run.time);
    for (let from = 0; from < samples.length; from += step) {
      let peak = 0;
      for (const sample of samples.subarray(from, from + step)) peak = Math.max(peak, Math.abs(sample));
      this.peaks.push([this.time + from / this.run.rate, peak]);
    }
    if (this.peaks.length > 3000) this.peaks.splice(0, 1000);
    this.time += samples.length / this.run.rate;
    this.node.port.postMessage(samples, [samples.buffer]);
  }

  answer(isAnswer) {
    this.isAnswer = isAnswer;
    if (!isAnswer) this.end();
  }

  // No audio follows for now: what the jitter buffer holds is heard.
  end() {
    this.node.port.postMessage("end");
  }

  // The speaker goes on: the rest of the answer is dropped, here and at the server.
  interrupt() {
    if (!this.isAnswer) return;
    this.node.port.postMessage("clear");
    this.time = this.run.time;
    this.run.put(JSON.stringify({ type: "clear" }));
  }

  listen(isOn) {
    this.gain.gain.value = isOn ? 1 : 0;
  }

  draw(canvas, end, shownS) {
    const { width, height } = canvas;
    const paint = canvas.getContext("2d");
    paint.clearRect(0, 0, width, height);
    paint.fillStyle = getComputedStyle(canvas).color;
    const step = width / (shownS * 50);
    for (const [time, peak] of this.peaks) {
      const x = width * (1 - (end - time) / shownS);
      const tall = Math.max(1, peak * height * 0.95);
      if (x >= -step) paint.fillRect(x, (height - tall) / 2, Math.max(1, step - 0.5), tall);
    }
  }
}
