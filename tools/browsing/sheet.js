"use strict";
/* Draws the frames in #data, filters and sorts them, and enlarges one. Text of the data only ever becomes text. */

const data = JSON.parse(document.getElementById("data").textContent);
const form = document.querySelector("form");
const list = document.querySelector(".sheet");
const dialog = document.querySelector("dialog");
const switches = document.querySelector(".switches");
const fields = form.elements;
const FACETS = ["group", "action", "subject"];
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function shape(name, attributes, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/* ---- drawing ---- */

function pose(kind, joints) {
  const ends = data.bones.filter(([start, end]) => joints[start] && joints[end]);
  const d = ends.map(([start, end]) => `M${joints[start]}L${joints[end]}`).join("");
  const dots = joints.map((joint, i) => joint &&
    shape("circle", { cx: joint[0], cy: joint[1] }, shape("title", {}, `${data.joints[i]}, ${kind}`)));
  return shape("g", { class: `pose ${kind}-pose` },
    shape("path", { class: "outline", d }), shape("path", { class: "bone", d }), ...dots.filter(Boolean));
}

/* One image with its joints, for each checkpoint; one with the truth alone where there is none. */
function views(frame) {
  const { size } = data;
  return (frame.predictions.length ? frame.predictions : [null]).map((predicted, i) => {
    // positions have pixel centers at integers, an SVG has corners there
    const drawn = shape("g", { transform: "translate(0.5 0.5)" }, pose("true", frame.truth));
    if (predicted) drawn.append(pose("predicted", predicted));
    const view = make("span", { class: "view" }, shape("svg", { viewBox: `0 0 ${size} ${size}`, "aria-hidden": "true" },
      shape("image", { href: frame.image, width: size, height: size }), drawn));
    if (predicted) {
      view.append(make("span", { class: "error" }, data.letters[i], " ", make("b", {}, error(frame.errors[i]))));
    }
    return view;
  });
}

function error(value) {
  return `${value.toFixed(1)}\u00a0${data.unit}`;
}

/* Names may break where a reader expects it. */
function breakable(text) {
  return text.split(/(?<=[_-])/).flatMap((part) => [part, make("wbr", {})]);
}

function caption(frame) {
  const action = frame.action + (frame.group === "no group" ? "" : ` (${frame.group})`);
  const lines = [make("span", { class: "action" }, ...breakable(action)),
    make("span", { class: "key" }, ...breakable(frame.key))];
  if (frame.errors.length === 2) {
    const [a, b] = frame.errors;
    const better = a <= b ? "A" : "B";
    lines.unshift(make("span", {}, `${better} is better by ${error(Math.abs(a - b))}`));
  }
  return make("span", { class: "caption" }, ...lines);
}

function card(frame) {
  const open = make("button", { type: "button", class: "open", "aria-label": `Enlarge ${frame.key}` }, ...views(frame));
  open.addEventListener("click", () => enlarge(frame));
  return make("li", { class: "card frame" }, open, caption(frame));
}

/* ---- choosing ---- */

const measures = {
  key: () => 0,
  "high-0": (frame) => -frame.errors[0],
  "low-0": (frame) => frame.errors[0],
  "high-1": (frame) => -frame.errors[1],
  "low-1": (frame) => frame.errors[1],
  difference: (frame) => -Math.abs(frame.errors[0] - frame.errors[1]),
  "better-0": (frame) => frame.errors[0] - frame.errors[1],
  "better-1": (frame) => frame.errors[1] - frame.errors[0],
};

function before(measure) {
  return (a, b) => measure(a) - measure(b) || (a.key < b.key ? -1 : 1);
}

/* Whether a frame passes all filters but the one of `except`. The value of an option is the number of its name. */
function passes(frame, except) {
  return frame.key.toLowerCase().includes(fields.key.value.trim().toLowerCase()) && FACETS.every((facet) =>
    facet === except || !fields[facet].value || names[facet][fields[facet].value] === frame[facet]);
}

function count(facet) {
  const found = data.frames.filter((frame) => passes(frame, facet));
  for (const option of fields[facet].options) {
    const name = option.value && names[facet][option.value];
    const frames = option.value ? found.filter((frame) => frame[facet] === name).length : found.length;
    option.textContent = `${option.value ? name : "all"} (${frames})`;
    option.disabled = !frames && !option.selected;
  }
}

function summary() {
  const all = data.frames.length;
  const frames = `${shown.length === all ? "" : `${shown.length} of `}${all} frame${all === 1 ? "" : "s"}`;
  const means = shown.length ? data.letters.map((letter, i) => {
    const mean = shown.reduce((sum, frame) => sum + frame.errors[i], 0) / shown.length;
    return `${letter} ${error(mean)}`.trim();
  }) : [];
  return `${frames}${means.length ? `, mean error ${means.join(", ")}` : ""}`;
}

function refresh() {
  shown = data.frames.filter((frame) => passes(frame)).sort(before(measures[fields.sort.value]));
  list.replaceChildren(...shown.map((frame) => cards.get(frame)));
  document.querySelector(".none").hidden = shown.length > 0;
  document.querySelector(".summary").textContent = summary();
  FACETS.forEach(count);
  list.style.setProperty("--width", `${fields.width.value}px`);
  for (const name of ["true", "predicted", "bones"]) {
    document.body.classList.toggle(`no-${name}`, name in fields && !fields[name].checked);
  }
}

/* ---- one frame, enlarged ---- */

function enlarge(frame) {
  place = shown.indexOf(frame);
  dialog.querySelector(".place").textContent = `${place + 1} of ${shown.length}`;
  dialog.querySelector(".frame").replaceChildren(make("div", { class: "views" }, ...views(frame)), caption(frame));
  if (!dialog.open) {
    dialog.querySelector(".place").after(switches); // a dialog makes the page behind it deaf
    dialog.showModal();
  }
}

function walk(steps) {
  enlarge(shown[(place + steps + shown.length) % shown.length]);
}

dialog.querySelector("[name=previous]").addEventListener("click", () => walk(-1));
dialog.querySelector("[name=next]").addEventListener("click", () => walk(1));
dialog.querySelector("[name=close]").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (steps) {
    event.preventDefault();
    walk(steps);
  }
});
dialog.addEventListener("close", () => {
  form.querySelector(".summary").after(switches);
  cards.get(shown[place]).querySelector("button").focus();
});

const names = Object.fromEntries(FACETS.map((facet) =>
  [facet, [...new Set(data.frames.map((frame) => frame[facet]))].sort()]));
for (const facet of FACETS) {
  fields[facet].append(...["", ...names[facet].keys()].map((value) => make("option", { value })));
}
const cards = new Map(data.frames.map((frame) => [frame, card(frame)]));
let shown = [];
let place = 0;
document.addEventListener("input", refresh);
form.addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll(".reset")) {
  button.addEventListener("click", () => {
    form.reset();
    refresh();
  });
}
refresh();
