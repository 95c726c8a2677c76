// What the page says, as functions of values.

export const seconds = (value) => `${value.toFixed(1)} s`;
const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

// The end of a stream, and whether something is missing from its results.
export function ending({ segments, failed, received }, rate) {
  const done = `${count(segments, "result")} for ${seconds(received / rate)} of audio`;
  if (!failed) return { text: `Done: ${done}.`, failed: false };
  return { text: `Done, but ${count(failed, "segment")} failed and ${failed === 1 ? "has" : "have"} no result. ${done}.`, failed: true };
}

// An error of the browser, with what to do.
export function browserError(error, fileName = "") {
  const known = {
    NotAllowedError: "The browser refuses the microphone. Allow it for this page (the symbol beside the address), then press Speak again. Or play a file.",
    NotFoundError: "No microphone was found. Connect one and press Speak again. Or play a file.",
    NotReadableError: "The microphone cannot be read. Another program may be using it: close that, then press Speak again.",
    EncodingError: `The browser cannot decode ${fileName || "this file"}. Choose a WAV, FLAC, MP3 or Ogg file.`,
  };
  return known[error.name] ?? error.message;
}

export function closing(code, reason) {
  if (code === 1006) return "The connection to the server was lost, and audio since then has no result. Look whether the server still runs, then press Speak again.";
  return `The server closed the connection: ${reason || `code ${code}, without a reason`}. Press Speak to begin again.`;
}

export function refusal(ready) {
  if (!ready) return "The server does not answer. Look whether it still runs, then try again.";
  if (ready.ok) return "The server refused the connection. If it needs a key or a token, enter it in the field Token.";
  return "";
}

// The text of an output; empty if the model found nothing to say.
export function outputText(output) {
  if (output === null || output === undefined) return "";
  return typeof output.text === "string" ? output.text : JSON.stringify(output);
}
