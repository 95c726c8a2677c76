// On the audio thread: audio out, in whatever pieces it comes, to the loudspeaker, 40 ms late so that it may be late.
const BUFFER_S = 0.04;

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.pieces = [];
    this.at = 0; // in the first piece
    this.waiting = 0; // samples in all pieces
    this.playing = false;
    this.isComplete = false; // nothing follows for now, so the rest is played however short it is
    const act = { clear: () => this.clear(), end: () => (this.isComplete = true) };
    this.port.onmessage = ({ data }) => (act[data] ? act[data]() : this.take(data));
  }

  take(piece) {
    this.pieces.push(piece);
    this.waiting += piece.length;
    this.isComplete = false;
  }

  clear() {
    this.pieces = [];
    this.at = this.waiting = 0;
    this.playing = false;
  }

  process(inputs, [[output]]) {
    this.playing ||= this.isComplete || this.waiting >= BUFFER_S * sampleRate;
    if (!this.playing) return true;
    let filled = 0;
    while (filled < output.length && this.pieces.length) {
      const [piece] = this.pieces;
      const count = Math.min(output.length - filled, piece.length - this.at);
      output.set(piece.subarray(this.at, this.at + count), filled);
      filled += count;
      this.at += count;
      if (this.at === piece.length) {
        this.pieces.shift();
        this.at = 0;
      }
    }
    this.waiting -= filled;
    if (!this.waiting) this.playing = false;
    return true;
  }
}

registerProcessor("playback", Playback);
