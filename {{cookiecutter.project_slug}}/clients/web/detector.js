// The detector of this folder for any page: detector.tflite, run by MediaPipe's tasks-vision.
//
//   import { decode, openDetector } from "./detector.js";
//   const detector = await openDetector();
//   const found = detector.detect(await decode(blob));
//   // [{class: "apple", class_id: 0, score: 0.91, box_xyxy_px: [12.5, 40, 310.2, 333.1]}, ...], best first
//
// The image is shrunk here, not by MediaPipe: it samples other places than training and the project's own reader.

import { FilesetResolver, ObjectDetector } from "./vision_bundle.mjs";

const HERE = new URL("./", import.meta.url).href;

// MediaPipe cuts box edges down to whole pixels of what it is given. It is therefore given each pixel of the input as
// a square, so many that a side has at least this many pixels; from a square it reads the same pixel back.
const FINE_PX = 1024;

/** A detector made of the files beside this one. Throws an Error that says which of them cannot be loaded. */
export async function openDetector() {
  const about = await (await load("about.json")).json();
  const model = new Uint8Array(await (await load("detector.tflite")).arrayBuffer());
  const files = await FilesetResolver.forVisionTasks(`${HERE}wasm`);
  const network = await ObjectDetector.createFromOptions(files, {
    baseOptions: { modelAssetBuffer: model, delegate: "CPU" },
    runningMode: "IMAGE",
    scoreThreshold: 0,
  });
  return new Detector(network, about);
}

/** An image file (Blob) as an upright bitmap. Color profile and transparency are ignored, as in training. */
export function decode(blob) {
  return createImageBitmap(blob, {
    imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

/** Width and height in pixels of a bitmap, canvas, image or video. */
export function sizeOf(image) {
  return [image.videoWidth ?? image.naturalWidth ?? image.width,
    image.videoHeight ?? image.naturalHeight ?? image.height];
}

class Detector {
  #network;
  #pixels = new Pixels();

  /** `about`: what about.json says of the model. */
  constructor(network, about) {
    this.#network = network;
    this.about = about;
  }

  /** All detections in a bitmap, canvas, image or video, best first; boxes in its pixels, inside it. */
  detect(image) {
    const [width, height] = sizeOf(image);
    const side = this.about.input_px;
    const input = enlarged(stretched(this.#pixels.of(image, width, height), width, height, side), side);
    const found = this.#network.detect(input).detections.map(({ boundingBox: box, categories: [best] }) => {
      const [left, right] = edges(box.originX, box.width, input.width, width);
      const [top, bottom] = edges(box.originY, box.height, input.height, height);
      // MediaPipe gives the name or, when the file holds no labels, the number.
      const id = best.categoryName ? this.about.labels.indexOf(best.categoryName) : best.index;
      const name = best.categoryName || `class ${id}`;
      return { class: name, class_id: id, score: best.score, box_xyxy_px: [left, top, right, bottom] };
    });
    return found.sort((one, other) => other.score - one.score);
  }
}

/** Reads the pixels of images. Not by a 2D canvas, which loses the color of what is transparent. */
class Pixels {
  #gl = document.createElement("canvas").getContext("webgl2");

  constructor() {
    const gl = this.#gl;
    if (!gl) throw new Error("the browser has no WebGL 2, or it is switched off");
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  }

  /** RGBA of an image, row by row from the top. */
  of(image, width, height) {
    const gl = this.#gl;
    const most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    if (Math.max(width, height) > most) throw new Error(`${width} x ${height} pixels, this browser takes ${most}`);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
    const rgba = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
    if (gl.isContextLost()) throw new Error("the graphics of this device were reset: load the page again");
    return rgba;
  }
}

async function load(name) {
  // Not an older copy: the browser asks the server whether the file has changed.
  const answer = await fetch(HERE + name, { cache: "no-cache" }).catch(() => ({ status: "no answer" }));
  if (!answer.ok) throw new Error(`${name} cannot be loaded (${answer.status})`);
  return answer;
}

/** First and last edge, 0..`size`, of a box that MediaPipe gives as start and length cut down to whole pixels of `of`. */
function edges(start, length, of, size) {
  // The middle of what was cut off is added again. What begins before the image is given as beginning at 0.
  const first = start > 0 ? start + 0.5 : 0;
  const last = start + length + (start > 0 ? 1 : 0.5);
  return [(first / of) * size, (Math.min(last, of) / of) * size];
}

/** RGBA of an image stretched to `side` x `side`: scripts/deploy/reader.py to the bit. */
function stretched(rgba, width, height, side) {
  const across = neighbors(width, side);
  const down = neighbors(height, side);
  const out = new Uint8ClampedArray(side * side * 4).fill(255); // Rounds half to even, as NumPy does.
  const mix = (near, far, weight) => Math.fround(near + Math.fround((far - near) * weight));
  for (let y = 0, at = 0; y < side; y++) {
    const top = down.first[y] * width;
    const bottom = down.second[y] * width;
    for (let x = 0; x < side; x++, at += 4) {
      const left = across.first[x];
      const right = across.second[x];
      for (let channel = 0; channel < 3; channel++) {
        const pixel = (row, column) => rgba[4 * (row + column) + channel];
        const upper = mix(pixel(top, left), pixel(top, right), across.weight[x]);
        const lower = mix(pixel(bottom, left), pixel(bottom, right), across.weight[x]);
        out[at + channel] = Math.fround(upper + Math.fround(Math.fround(lower - upper) * down.weight[y]));
      }
    }
  }
  return out;
}

/** For each target pixel the two source pixels around its center and the weight of the second. */
function neighbors(size, side) {
  const [first, second] = [new Int32Array(side), new Int32Array(side)];
  const weight = new Float32Array(side);
  const scale = Math.fround(size / side);
  for (let i = 0; i < side; i++) {
    const center = Math.fround(Math.fround((i + 0.5) * scale) - 0.5);
    first[i] = Math.max(Math.floor(center), 0);
    second[i] = Math.min(Math.ceil(center), size - 1);
    weight[i] = center - Math.floor(center);
  }
  return { first, second, weight };
}

/** RGBA `side` x `side` as an image in which each pixel is a square. */
function enlarged(rgba, side) {
  const times = Math.ceil(FINE_PX / side);
  const pixels = new Uint32Array(rgba.buffer);
  const long = side * times;
  const out = new Uint32Array(long * long);
  for (let y = 0; y < side; y++) {
    const row = y * times * long;
    for (let x = 0; x < side; x++) out.fill(pixels[y * side + x], row + x * times, row + (x + 1) * times);
    for (let again = 1; again < times; again++) out.copyWithin(row + again * long, row, row + long);
  }
  return new ImageData(new Uint8ClampedArray(out.buffer), long, long);
}
