// A recording (WAV, 16 kHz, 16 bit, mono) to a server, its words to the terminal. See docs/how/grpc.md.
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const proto = loader.loadSync("streamer/v2/streamer.proto", { includeDirs: [new URL("../../proto", import.meta.url).pathname], keepCase: true, oneofs: true });
const { Streamer } = grpc.loadPackageDefinition(proto).streamer.v2;
const call = new Streamer("localhost:50051", grpc.credentials.createInsecure()).Stream();

call.on("data", ({ segment }) => {
  if (segment) console.log(segment.start_time, segment.end_time, segment.output.fields.text.stringValue);
});
call.on("error", (error) => console.error(error.code, error.details, error.metadata.get("streamer-code")));

call.write({ start: { format: { encoding: "ENCODING_PCM_S16LE", sample_rate: 16000, channels: 1 } } });
const audio = readFileSync(process.argv[2]).subarray(44);
for (let at = 0; at < audio.length; at += 32000) call.write({ audio: audio.subarray(at, at + 32000) });
call.end(); // half a close: everything sent is still answered
