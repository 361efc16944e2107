// The page around detector.js: images and camera in, boxes out. Programs may call window.detectUrl(url).

const GOLDEN_RATIO = 0.618034; // Steps of this part of the color circle never come close to an earlier hue.
const LIVE = "(camera)";
const byId = (id) => document.getElementById(id);
const shown = new Map(); // frame element -> {row, caption} that is drawn on it
let stream = null; // of the camera, while it runs
let batch = null; // the files that were taken last

const ready = start();
ready.catch((error) => tell(`The detector cannot be loaded: ${error?.message || "a file of wasm/ is missing"}. ` +
  "Make this folder anew with “invoke web”.", true));

/** The row of `invoke predict` for an image, which is shown too; plus milliseconds of resizing and network. */
window.detectUrl = async (url) => {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} cannot be loaded (${answer.status})`);
  return detectBlob(await answer.blob(), url);
};

async function start() {
  const { decode, openDetector, sizeOf } = await import("./detector.js");
  const detector = await openDetector();
  detector.detect(document.createElement("canvas")); // The first run is slow and would spoil the milliseconds.
  const { about } = detector;
  document.title = byId("name").textContent = about.name;
  byId("classes").textContent = `Finds: ${about.labels.join(", ")}`;
  byId("about").textContent = `${about.file} (sha256 ${about.sha256.slice(0, 12)}…), ${about.input_px} × ` +
    `${about.input_px} pixels, on MediaPipe tasks-vision ${about.tasks_vision} (Apache-2.0). Images stay in this ` +
    "browser; nothing is sent.";
  for (const id of ["files", "camera"]) byId(id).disabled = false;
  tell("Choose images, drop them here, or start the camera.");
  return { detector, decode, sizeOf };
}

/** Detects in a bitmap or video and returns its row. */
async function detect(image, file) {
  const { detector, sizeOf } = await ready;
  const begin = performance.now();
  const detections = detector.detect(image);
  const milliseconds = performance.now() - begin;
  const [width, height] = sizeOf(image);
  byId("speed").textContent = `${milliseconds.toFixed(0)} ms`;
  return { file, width, height, detections, milliseconds };
}

async function detectBlob(blob, name) {
  const { decode } = await ready;
  const bitmap = await decode(blob).catch(() => { throw new Error("this browser cannot read it"); });
  const row = await detect(bitmap, name);
  bitmap.close();
  show(blob, row);
  return row;
}

function show(blob, row) {
  const figure = element("figure");
  const frame = element("div", "frame", figure);
  const image = element("img", "", frame);
  image.alt = row.file;
  image.src = URL.createObjectURL(blob);
  const caption = element("figcaption", "", figure);
  element("span", "file", caption).textContent = row.file;
  shown.set(frame, { row, found: element("span", "found", caption) });
  byId("images").append(figure);
  byId("images").classList.toggle("one", byId("images").children.length === 1);
  byId("message").hidden = true;
  draw(frame);
}

/** Boxes over a frame: those of its row from the threshold on, the best on top. */
function draw(frame) {
  const { row, found } = shown.get(frame);
  const limit = Number(byId("threshold").value);
  const kept = row.detections.filter((one) => one.score >= limit);
  frame.querySelectorAll(".box").forEach((box) => box.remove());
  for (const one of [...kept].reverse()) frame.append(boxOf(one, row));
  if (found) found.textContent = `${kept.length} found, ${row.milliseconds.toFixed(0)} ms`;
}

function boxOf(one, { width, height }) {
  const [left, top, right, bottom] = one.box_xyxy_px;
  const box = element("div", "box");
  const percent = { left: left / width, top: top / height, width: (right - left) / width, height: (bottom - top) / height };
  for (const [name, part] of Object.entries(percent)) box.style.setProperty(name, `${100 * part}%`);
  const [red, green, blue] = colorOf(one.class_id);
  box.style.setProperty("--color", `rgb(${red} ${green} ${blue})`);
  box.classList.toggle("dark", 0.299 * red + 0.587 * green + 0.114 * blue < 140);
  box.classList.toggle("high", top / height < 0.08);
  box.classList.toggle("right", left / width > 0.6);
  element("span", "", box).textContent = `${one.class} ${one.score.toFixed(2)}`;
  return box;
}

/** The color of a class as `invoke predict` draws it, red, green and blue 0..255. */
function colorOf(classId) {
  const hue = (classId * GOLDEN_RATIO + 0.02) % 1;
  const light = Math.floor(classId / 8) % 2 ? 0.78 : 1;
  return [5, 3, 1].map((turn) => {
    const at = (turn + 6 * hue) % 6;
    return Math.round(255 * light * (1 - 0.9 * Math.max(0, Math.min(at, 4 - at, 1))));
  });
}

function element(tag, className = "", parent = null) {
  const made = document.createElement(tag);
  made.className = className;
  parent?.append(made);
  return made;
}

function tell(text, error = false) {
  byId("message").textContent = text;
  byId("message").hidden = false;
  byId("message").classList.toggle("error", error);
}

/** Images that were picked or dropped replace those before. */
async function take(files) {
  for (const image of byId("images").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  byId("images").replaceChildren();
  for (const frame of shown.keys()) if (!frame.isConnected) shown.delete(frame);
  batch = files;
  const failed = [];
  for (const file of files) {
    await detectBlob(file, file.name).catch((error) => failed.push(`${file.name}: ${error.message}`));
    await new Promise((done) => setTimeout(done)); // The page stays alive between two images.
    if (batch !== files) return;
  }
  if (failed.length) tell(`${failed.join("; ")}.`, true);
}

const REFUSALS = {
  NotAllowedError: "the browser was not allowed to use it: allow it for this page in the browser's settings",
  NotFoundError: "there is none on this device",
  NotReadableError: "another program uses it",
};

async function startCamera() {
  try {
    if (!navigator.mediaDevices) throw new Error("browsers give it only to https:// addresses and to localhost");
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch (error) {
    return tell(`No camera: ${REFUSALS[error.name] ?? error.message}.`, true);
  }
  const video = byId("video");
  video.srcObject = stream;
  await video.play();
  byId("live").hidden = false;
  byId("message").hidden = true;
  byId("camera").textContent = "Stop camera";
  watch(video, stream).catch((error) => {
    stopCamera();
    tell(`The camera was stopped: ${error.message}.`, true);
  });
}

/** Detects in each frame that the page has time for, until the camera is stopped. */
async function watch(video, mine) {
  while (stream === mine) {
    shown.set(video.parentElement, { row: await detect(video, LIVE) });
    if (stream === mine) draw(video.parentElement);
    await new Promise((done) => requestAnimationFrame(done));
  }
}

function stopCamera() {
  stream.getTracks().forEach((track) => track.stop());
  stream = null;
  shown.delete(byId("video").parentElement);
  byId("live").hidden = true;
  byId("camera").textContent = "Start camera";
}

byId("files").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = ""; // The same image may be chosen again.
});
byId("camera").addEventListener("click", () => (stream ? stopCamera() : startCamera()));
byId("threshold").addEventListener("input", (event) => {
  byId("shown").textContent = Number(event.target.value).toFixed(2);
  for (const frame of shown.keys()) draw(frame);
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  take([...event.dataTransfer.files].filter((file) => file.type.startsWith("image/")));
});
