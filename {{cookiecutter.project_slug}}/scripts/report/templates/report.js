"use strict";
// The slider, the examples and the crops. All numbers come from the data element: only ratios are computed.
// Names enter the page as text, never as markup.

const data = JSON.parse(document.getElementById("page-data").textContent);
const byId = (id) => document.getElementById(id);
const PAGE = window.innerWidth < 640 ? 8 : 24;
const WRONG = -1, IGNORED = -2; // what a detection found; from 0: the number of the label in its image

function make(name, className, ...parts) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...parts);
  return element;
}

const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "-");
const number = (value) => value.toLocaleString("en-US");

/** An image from base64 in a frame of its own shape, over which boxes are laid. */
function frame(item, description) {
  const holder = make("div", "frame");
  holder.style.aspectRatio = `${item.size[0]} / ${item.size[1]}`;
  if (item.jpeg) {
    const image = make("img");
    image.alt = description;
    image.decoding = "async";
    image.src = `data:image/jpeg;base64,${item.jpeg}`;
    holder.append(image);
  } else holder.append(make("div", "absent", "This image cannot be read."));
  return holder;
}

/** A box [x, y, width, height] in thousandths of the image, with a caption. */
function box([x, y, width, height], kind, caption) {
  const element = make("div", `box ${kind}${y < 90 ? " low" : ""}${x > 600 ? " far" : ""}`);
  Object.assign(element.style, { left: `${x / 10}%`, top: `${y / 10}%`, width: `${width / 10}%`, height: `${height / 10}%` });
  if (caption) element.append(make("span", "", caption));
  return element;
}

/** Shows a list by `tile`, PAGE more at a time; returns a function that starts again with other rows. */
function pages(list, more, tile) {
  let rows = [], shown = 0;
  const add = () => {
    list.append(...rows.slice(shown, shown + PAGE).map(tile));
    shown = Math.min(rows.length, shown + PAGE);
    more.hidden = shown === rows.length;
    more.textContent = `Show more (${number(shown)} of ${number(rows.length)})`;
  };
  more.addEventListener("click", add);
  return (wanted) => {
    list.replaceChildren();
    [rows, shown] = [wanted, 0];
    add();
  };
}

/** Calls `start` once `element` is near the visible part: images that nobody scrolls to cost nothing. */
function whenNear(element, start) {
  const watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    start();
  }, { rootMargin: "800px" });
  watcher.observe(element);
}

// --- The slider and the counts

function tally(hits, wrong, boxes) {
  return [hits, wrong, boxes - hits, percent(hits, hits + wrong), percent(hits, boxes), percent(2 * hits, hits + wrong + boxes)];
}

function showCounts(hundredth) {
  const { boxes, hits, false_alarms: wrong } = data.counts, at = hundredth - 1;
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const all = tally(sum(hits.map((row) => row[at])), sum(wrong.map((row) => row[at])), sum(boxes));
  const rows = data.classes.map((_, index) => tally(hits[index][at], wrong[index][at], boxes[index]));
  const write = (cells, values) => values.forEach((value, index) => {
    cells[index].textContent = typeof value === "number" ? number(value) : value;
  });
  write(byId("all-counts").querySelectorAll("td"), all);
  byId("class-counts").querySelectorAll("tr").forEach((row, index) => write(row.querySelectorAll("td"), rows[index]));
  write(["right", "false", "missed", "precision", "recall", "f1"].map((name) => byId(`now-${name}`)), all);
}

// --- The examples

/** What is right, false and missed in an image from a score on. */
function judged(item, hundredth) {
  const shown = item.found.filter((row) => row[1] >= hundredth);
  const found = new Set(shown.map((row) => row[6]).filter((label) => label >= 0));
  const missed = item.truth.filter((row, index) => !row[5] && !found.has(index));
  const right = shown.filter((row) => row[6] >= 0 && !item.truth[row[6]][5]).length;
  return { shown, found, missed, right, wrong: shown.filter((row) => row[6] === WRONG).length };
}

function exampleTile(item) {
  const holder = frame(item, item.file), caption = make("div");
  const tile = make("div", "tile", holder, caption, make("span", "file", item.file));
  item.draw = (hundredth) => {
    const { shown, missed, right, wrong } = judged(item, hundredth);
    holder.querySelectorAll(".box").forEach((old) => old.remove());
    if (byId("labels").checked) {
      holder.append(...item.truth.filter((row) => !missed.includes(row)).map((row) => box(row.slice(1, 5), row[5] ? "ignored" : "label", "")));
    }
    holder.append(...missed.map((row) => box(row.slice(1, 5), "missed", data.classes[row[0]])));
    for (const [kind, score, x, y, width, height, label] of [...shown].reverse()) {
      const state = label === WRONG ? "wrong" : label === IGNORED ? "ignored" : "";
      holder.append(box([x, y, width, height], state, `${(score / 100).toFixed(2)} ${data.classes[kind]}`));
    }
    caption.replaceChildren(make("span", "right-text", `${right} right`), ", ", make("span", "wrong-text", `${wrong} false`), ", ", make("span", "miss-text", `${missed.length} missed`));
  };
  item.draw(Number(byId("score").value));
  item.drawn = true;
  return tile;
}

function startExamples() {
  const score = byId("score"), kind = byId("class"), mistakes = byId("mistakes"), list = byId("example-list");
  const restart = pages(list, byId("more-examples"), exampleTile);
  const wanted = () => {
    const hundredth = Number(score.value), chosen = kind.value === "" ? null : Number(kind.value);
    return data.examples.filter((item) => {
      const state = judged(item, hundredth);
      if (mistakes.checked && !state.wrong && !state.missed.length) return false;
      return chosen === null || item.truth.some((row) => row[0] === chosen) || state.shown.some((row) => row[0] === chosen);
    });
  };
  const renew = () => {
    data.examples.forEach((item) => { item.drawn = false; });
    const rows = wanted();
    restart(rows);
    byId("example-count").textContent = `${number(rows.length)} of ${number(data.examples.length)} images`;
  };
  const move = () => {
    const hundredth = Number(score.value);
    byId("score-now").textContent = (hundredth / 100).toFixed(2);
    showCounts(hundredth);
    data.examples.filter((item) => item.drawn).forEach((item) => item.draw(hundredth));
  };
  let waiting = false;
  score.addEventListener("input", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; move(); });
  });
  score.addEventListener("change", () => { if (mistakes.checked || kind.value !== "") renew(); });
  for (const input of [kind, mistakes]) input.addEventListener("change", renew);
  byId("labels").addEventListener("change", move);
  document.querySelectorAll("button[data-score]").forEach((button) => button.addEventListener("click", () => {
    score.value = button.dataset.score;
    move();
    score.dispatchEvent(new Event("change"));
  }));
  move();
  whenNear(byId("more-examples"), renew);
}

// --- The mistakes and the labels that look wrong

const place = (item) => (item.annotation ? `${item.annotation}${item.line ? `:${item.line}` : ""}` : item.file);

function errorTile(item) {
  const holder = frame(item, item.file), kind = item.cause === "missed" ? "missed" : "label";
  if (item.label) holder.append(box(item.label, kind, item.truth_class ?? ""));
  if (item.box) holder.append(box(item.box, "wrong", item.class ?? ""));
  const says = [item.score === null ? "" : `score ${item.score.toFixed(2)}`, item.iou === null ? "" : `IoU ${item.iou.toFixed(2)}`];
  const names = item.class && item.truth_class && item.class !== item.truth_class ? `${item.truth_class} found as ${item.class}` : item.class ?? item.truth_class;
  return make("div", "tile", holder, make("b", "", `${item.cause}: ${names}`), make("span", "", says.filter(Boolean).join(", ")), make("span", "file", place(item)));
}

function suspectTile(item) {
  const holder = frame(item, item.file);
  if (item.label) holder.append(box(item.label, "label", item.class ?? ""));
  if (item.box) holder.append(box(item.box, "", item.suggested_class ?? ""));
  return make("div", "tile", holder, make("b", "", `${item.rank}. ${item.why}`), make("span", "file", place(item)));
}

function startErrors() {
  const restart = pages(byId("error-list"), byId("more-errors"), errorTile);
  const buttons = [...document.querySelectorAll("button[data-cause]")];
  const show = (button) => {
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    const cause = button.dataset.cause, rows = data.errors.filter((item) => !cause || item.cause === cause);
    restart(rows);
    byId("error-count").textContent = `${number(rows.length)} of ${number(Number(button.dataset.count))} shown, the worst first.`;
  };
  buttons.forEach((button) => button.addEventListener("click", () => show(button)));
  whenNear(byId("more-errors"), () => { if (!byId("error-list").childElementCount) show(buttons[0]); });
}

if (byId("example-list")) startExamples();
if (byId("error-list")) startErrors();
if (byId("suspect-list")) whenNear(byId("suspect-list"), () => byId("suspect-list").append(...data.suspects.map(suspectTile)));
document.documentElement.dataset.ready = String(Math.round(performance.now())); // ms since the navigation began
