// The page that restores a visitor's picture: takes it, shows how far the work is, compares, saves.

const LARGEST = 16e6; // pixels; canvases of some phones hold no more
const find = (name) => document.getElementById(`try-${name}`);
const here = (name) => new URL(name, import.meta.url).href;

let worker = null;

function show(name, text) {
  find(name).textContent = text;
  find(name).hidden = !text;
}

function stop() {
  worker?.terminate();
  worker = null;
  find("working").hidden = true;
  show("status", "");
}

function fail(text) {
  stop();
  show("error", text);
}

async function settings() {
  if (location.protocol === "file:")
    throw new Error(
      "Browsers run no such page from a file. In its folder start `python -m http.server`, then open " +
        "http://localhost:8000/try.html.",
    );
  const given = await (await fetch(here("model.json"))).json();
  if (given.missing) throw new Error(given.missing);
  return given;
}

async function read(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is no picture that this browser can read. PNG, JPEG and WebP it can.`);
  }
  const { width, height } = bitmap;
  const megapixels = ((width * height) / 1e6).toFixed(1);
  if (width * height > LARGEST) {
    bitmap.close();
    throw new Error(
      `${file.name} is too large: ${width} x ${height} are ${megapixels} megapixels, at most ${LARGEST / 1e6} go here. ` +
        "The command `clusir restore` takes larger ones.",
    );
  }
  const canvas = find("before");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, rgba: context.getImageData(0, 0, width, height).data };
}

function finish(picture, { rgba, seconds, tiles, tile }, name) {
  const canvas = find("after");
  Object.assign(canvas, { width: picture.width, height: picture.height });
  canvas.getContext("2d").putImageData(new ImageData(rgba, picture.width, picture.height), 0, 0);
  find("compare").hidden = false;
  move(50);
  const how = tiles > 1 ? `in ${tiles} tiles of ${tile} pixels` : "as a whole";
  canvas.toBlob((blob) => {
    const link = find("download");
    URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(blob);
    link.download = `${name.replace(/\.[^.]*$/, "")}_restored.png`;
    link.hidden = false;
    show("status", `Restored ${how}, in ${seconds.toFixed(1)} s. Move the line to compare.`);
  }, "image/png");
}

function move(percent) {
  find("split").value = percent;
  find("compare").style.setProperty("--split", `${percent}%`);
}

async function restore(file) {
  stop();
  for (const name of ["error", "looks"]) show(name, "");
  for (const name of ["compare", "download"]) find(name).hidden = true;
  let given, picture;
  try {
    given = await settings();
    picture = await read(file);
  } catch (error) {
    fail(error.message);
    return;
  }
  const megabytes = (given.bytes / 1e6).toFixed(0);
  show("status", `Loading the network, ${megabytes} MB; later it comes from the browser's cache.`);
  find("progress").removeAttribute("value");
  find("working").hidden = false;
  const current = (worker = new Worker(here("worker.js"), { type: "module" }));
  current.onerror = (event) => fail(`The network did not start: ${event.message ?? "is this an old browser?"}`);
  let started = 0;
  current.onmessage = ({ data }) => {
    if (current !== worker) return;
    if (data.kind === "step") {
      started = performance.now();
      show("status", `${data.text} …`);
    } else if (data.kind === "looks") {
      started = performance.now();
      show("looks", data.text);
      show("status", "Restoring …");
    } else if (data.kind === "progress") {
      Object.assign(find("progress"), { value: data.done, max: data.total });
      const left = ((performance.now() - started) / 1000 / data.done) * (data.total - data.done);
      show("status", `Restoring, part ${data.done} of ${data.total}${left >= 1 ? `, about ${left.toFixed(0)} s left` : ""}`);
    } else if (data.kind === "done") {
      stop();
      finish(picture, data, file.name);
    } else {
      fail(`It did not work: ${data.text}. Is the picture too large for the memory that this browser gives to a page?`);
    }
  };
  current.postMessage({ picture, settings: given });
}

find("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) restore(file);
  event.target.value = ""; // so that the same file can be chosen again
});
find("example").addEventListener("click", async () => {
  const answer = await fetch(here("example.png"));
  restore(new File([await answer.blob()], "example.png"));
});
find("stop").addEventListener("click", stop);
find("split").addEventListener("input", (event) => move(event.target.value));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
  find("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("try-over", kind === "dragenter" || kind === "dragover");
    if (kind !== "drop") return;
    const [file] = event.dataTransfer.files;
    if (file) restore(file);
    else fail("That is no file. Drop a picture from a folder.");
  });
