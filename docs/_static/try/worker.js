// Restores one picture beside the page, so that the page stays alive. Nothing leaves the machine.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { bestTile, tileSpans, windows } from "./tiles.js";

const here = (name) => new URL(name, import.meta.url).href;

ort.env.wasm.wasmPaths = { wasm: here("ort-wasm-simd-threaded.wasm") };
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 4) : 1;
ort.env.logLevel = "error";

async function open(name) {
  const answer = await fetch(here(name));
  if (!answer.ok) throw new Error(`${name} is missing on the server (${answer.status})`);
  const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
  return ort.InferenceSession.create(new Uint8Array(await answer.arrayBuffer()), options);
}

// Rows and columns of the picture as (1, 3, h, w) in [0, 1].
function cut({ width, rgba }, [top, bottom], [left, right]) {
  const size = (bottom - top) * (right - left);
  const values = new Float32Array(3 * size);
  let place = 0;
  for (let row = top; row < bottom; row++)
    for (let column = left; column < right; column++, place++)
      for (let channel = 0; channel < 3; channel++)
        values[channel * size + place] = rgba[4 * (row * width + column) + channel] / 255;
  return new ort.Tensor("float32", values, [1, 3, bottom - top, right - left]);
}

function middle(length, longest) {
  const start = Math.floor(Math.max(length - longest, 0) / 2);
  return [start, Math.min(start + longest, length)];
}

// Kinds of degradation and their probabilities, likeliest first: DegradationTable.guess in JavaScript.
function guess(table, decided) {
  const score = table.kinds.map(() => 1);
  for (const { level, frequency } of table.levels) {
    const posterior = decided[`clusters_${level + 1}`].data;
    const sums = frequency.map((row) => row.reduce((sum, value) => sum + value));
    score.forEach((_, kind) => {
      score[kind] *= frequency.reduce((sum, row, cluster) => sum + (posterior[cluster] * row[kind]) / sums[cluster], 0);
    });
  }
  const total = score.reduce((sum, value) => sum + value);
  const order = table.kinds.map((kind, number) => [kind.replaceAll("_", " "), score[number] / total]);
  return order.sort((one, other) => other[1] - one[1]);
}

async function restoreTiles(session, decided, picture, settings) {
  const { width, height } = picture;
  const tile = bestTile([height, width], settings);
  const [rows, columns] = [height, width].map((length) => tileSpans(length, tile, settings.overlap, settings.multiple));
  const [rowWeights, columnWeights] = [rows, columns].map(windows);
  const total = rows.length * columns.length;
  const result = new Uint8ClampedArray(picture.rgba); // keeps transparency; rounds and clips what is put in
  let carried = new Float32Array(0); // rows that the next tiles reach too
  let done = 0;
  for (let row = 0; row < rows.length; row++) {
    const [top, bottom] = rows[row];
    const band = new Float32Array((bottom - top) * width * 3);
    band.set(carried);
    for (let column = 0; column < columns.length; column++) {
      const [left, right] = columns[column];
      const { restored } = await session.run({ ...decided, image: cut(picture, rows[row], columns[column]) });
      const size = (bottom - top) * (right - left);
      for (let y = 0, place = 0; y < bottom - top; y++)
        for (let x = 0; x < right - left; x++, place++)
          for (let channel = 0; channel < 3; channel++)
            band[3 * (y * width + left + x) + channel] +=
              restored.data[channel * size + place] * rowWeights[row][y] * columnWeights[column][x];
      restored.dispose();
      postMessage({ kind: "progress", done: ++done, total });
    }
    const end = row < rows.length - 1 ? rows[row + 1][0] : bottom;
    for (let place = 0; place < (end - top) * width; place++)
      for (let channel = 0; channel < 3; channel++)
        result[4 * (top * width + place) + channel] = band[3 * place + channel] * 255;
    carried = band.slice(3 * (end - top) * width);
  }
  return { rgba: result, tiles: total, tile };
}

async function run(picture, settings) {
  const started = performance.now();
  const routing = await open("route.onnx");
  postMessage({ kind: "step", text: "Looking at the picture" });
  const part = [picture.height, picture.width].map((length) => middle(length, settings.routed_side));
  const decided = await routing.run({ image: cut(picture, ...part) });
  await routing.release();
  const [[first, probability], [second]] = guess(settings.table, decided);
  postMessage({ kind: "looks", text: `looks like: ${first} (${probability.toFixed(2)}), then ${second}` });
  const session = await open("restore.onnx");
  const given = Object.fromEntries(session.inputNames.filter((name) => name !== "image").map((n) => [n, decided[n]]));
  const result = await restoreTiles(session, given, picture, settings);
  const seconds = (performance.now() - started) / 1000;
  postMessage({ kind: "done", ...result, seconds }, [result.rgba.buffer]);
}

onmessage = ({ data }) =>
  run(data.picture, data.settings).catch((error) => postMessage({ kind: "error", text: String(error?.message ?? error) }));
