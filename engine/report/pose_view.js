"use strict";
/* Draws the poses in #poses, which can be turned and enlarged. Nothing moves but by the user's hand, so there is no motion
   to reduce. A point is [left, up, front] of the person, mm from the floor's center; a drawing has sides of `side` units. */

const { joints, bones, floor, side, first, frames } = JSON.parse(document.getElementById("poses").textContent);
const view = document.querySelector(".view");
const [form, svg, tip, list, image] = ["form", ".drawing svg", ".tip", "ul", ".shown"].map((name) => view.querySelector(name));
const KINDS = ["true", "predicted"];
const STEP = 15; // degrees by a key
const DEGREES_PER_PIXEL = 0.5;
const MAX_ZOOM = 6;
const NEAR = 22; // from a pointer to a joint that it means, in pixels
const CORNERS = [[1, 1], [1, -1], [-1, -1], [-1, 1]].map(([left, front]) => [left * floor.half, 0, front * floor.half]);

const state = { zoom: 1, x: 0, y: 0, joint: null, kind: "true", ...first }; // angles in degrees, x and y in units
let frame;

/* ---- drawing ---- */

/* Where the drawing has a point, how near the viewer that is (mm), and by how much nearness enlarges it. */
function project([left, up, front]) {
  const [a, e] = [state.azimuth, state.elevation].map((angle) => angle * Math.PI / 180);
  const height = up - frame.middle;
  const towards = left * Math.sin(a) + front * Math.cos(a);
  const depth = height * Math.sin(e) + towards * Math.cos(e);
  const near = 1 / (1 - depth / (4 * frame.radius));
  const scale = near * state.zoom * side / (2.16 * frame.radius);
  return { depth, near, x: side / 2 + state.x + scale * (left * Math.cos(a) - front * Math.sin(a)),
    y: side / 2 + state.y - scale * (height * Math.cos(e) - towards * Math.sin(e)) };
}

function shape(name, attributes, text = "") {
  const element = document.createElementNS(svg.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(text);
  return element;
}

function line(...points) {
  return points.map(project).map(({ x, y }, i) => `${i ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");
}

function ground() {
  const { half, tile } = floor;
  const steps = Array.from({ length: 2 * half / tile + 1 }, (_, i) => i * tile - half);
  const grid = steps.map((k) => line([k, 0, -half], [k, 0, half]) + line([-half, 0, k], [half, 0, k])).join("");
  const flat = ([left, , front]) => [left, 0, front];
  const shadow = bones.map((bone) => line(...bone.map((i) => flat(frame.true[i])))).join("");
  const { x, y } = project([0, 0, half + tile / 3]);
  return [shape("path", { class: "floor", d: `${line(...CORNERS)}Z` }), shape("path", { class: "grid", d: grid }),
    shape("path", { class: "shadow", d: shadow }), shape("text", { class: "front", x, y }, "front")];
}

/* Bones and joints of a pose, each with its depth. */
function pose(kind) {
  const places = frame[kind].map(project);
  const drawn = places.map(({ x, y, depth, near }, i) => {
    const r = near * (kind === "true" ? 5.5 : 4) * (i === state.joint ? 1.5 : 1);
    // before the bones that end in it
    return [depth + 120, shape("circle", { class: `joint ${kind}-pose`, cx: x, cy: y, r, "data-joint": i })];
  });
  for (const [start, end] of bones) {
    const [d, depth] = [line(frame[kind][start], frame[kind][end]), (places[start].depth + places[end].depth) / 2];
    drawn.push([depth - 1, shape("path", { class: `outline ${kind}-pose`, d })],
      [depth, shape("path", { class: `bone ${kind}-pose`, d })]);
  }
  return drawn;
}

function draw() {
  const shapes = KINDS.flatMap(pose).sort(([one], [other]) => one - other).map(([, element]) => element);
  const gaps = joints.map((_, i) => shape("path", { class: i === state.joint ? "gap chosen" : "gap",
    d: line(frame.true[i], frame.predicted[i]) }));
  svg.replaceChildren(...ground(), ...gaps, ...shapes);
  const [angle, height] = [state.azimuth, state.elevation].map(Math.round);
  view.querySelector("#seen").textContent = `Seen from ${Math.abs(angle)}° ${angle < 0 ? "right" : "left"} of the ` +
    `person's front, ${Math.abs(height)}° ${height < 0 ? "below" : "above"}; enlarged ${state.zoom.toFixed(1)}×.`;
  [...list.children].forEach((row, i) => row.classList.toggle("chosen", i === state.joint));
  tip.hidden = state.joint === null;
  if (!tip.hidden) {
    const { x, y } = project(frame[state.kind][state.joint]);
    tip.textContent = `${joints[state.joint]} ${frame.errors[state.joint]}\u00a0mm`;
    const { width } = svg.getBoundingClientRect();
    const within = (value, least, most) => `${Math.min(most, Math.max(least, value * width / side))}px`;
    const half = (tip.offsetWidth + 1) / 2; // which is rounded
    Object.assign(tip.style, { left: within(x, half, width - half), top: within(y, 2 * tip.offsetHeight, width) });
  }
}

function show() {
  frame = frames[form.elements.frame.value];
  frame.middle = Math.max(...frame.true.map(([, up]) => up)) / 2;
  // everything fits, whichever way it is turned
  const points = [...CORNERS, ...KINDS.flatMap((kind) => frame[kind])];
  frame.radius = Math.max(...points.map(([left, up, front]) => Math.hypot(left, up - frame.middle, front)));
  view.querySelector(".caption").textContent = `${frame.kind}, ${frame.error.toFixed(1)} mm: ${frame.action}, ${frame.key}`;
  const seen = document.querySelector(`.turn[value="${form.elements.frame.value}"]`).closest("figure").querySelector(".overlay");
  image.hidden = !seen;
  if (seen) Object.assign(image, { src: seen.src, alt: seen.alt });
  const most = Math.max(1, ...frame.errors);
  list.replaceChildren(...joints.map((name, i) => {
    const row = document.createElement("li");
    row.append(name, " ", Object.assign(document.createElement("b"), { textContent: frame.errors[i] }));
    row.style.setProperty("--share", `${100 * frame.errors[i] / most}%`);
    row.addEventListener("pointerenter", () => choose(i));
    row.addEventListener("pointerleave", () => choose(null));
    return row;
  }));
  draw();
}

/* ---- turning ---- */

function change(values) {
  Object.assign(state, values);
  draw();
}

/* Name a joint, beside its true or its predicted place. */
function choose(joint, kind = "true") {
  if (joint !== state.joint || kind !== state.kind) change({ joint, kind });
}

/* Turn by degrees to the viewer's right and downwards, as if the near side of the pose were pushed there. */
function turn(right, down) {
  const azimuth = 180 - ((180 - state.azimuth + right) % 360 + 360) % 360;
  change({ azimuth, elevation: Math.min(90, Math.max(-90, state.elevation + down)) });
}

/* Enlarge about a place of the drawing, which stays where it is; return whether that was possible. */
function enlarge(factor, x = side / 2, y = side / 2) {
  const zoom = Math.min(MAX_ZOOM, Math.max(1, state.zoom * factor));
  const k = zoom / state.zoom;
  const moved = (shift, place) => zoom === 1 ? 0 : (place - side / 2) * (1 - k) + shift * k;
  change({ zoom, x: moved(state.x, x), y: moved(state.y, y) });
  return k !== 1;
}

const ACTIONS = {
  ArrowLeft: () => turn(-STEP, 0), ArrowRight: () => turn(STEP, 0), ArrowUp: () => turn(0, -STEP),
  ArrowDown: () => turn(0, STEP), "+": () => enlarge(1.25), "=": () => enlarge(1.25), "-": () => enlarge(0.8),
  Home: () => change({ zoom: 1, x: 0, y: 0, ...first }),
};

/* Where a pointer is in the drawing, and how many units a pixel has. */
function place({ clientX, clientY }) {
  const box = svg.getBoundingClientRect();
  const unit = side / box.width;
  return { x: (clientX - box.left) * unit, y: (clientY - box.top) * unit, unit };
}

function point(event) {
  const { x, y, unit } = place(event);
  const found = KINDS.flatMap((kind) => frame[kind].map(project).map((drawn, joint) =>
    ({ joint, kind, distance: Math.hypot(drawn.x - x, drawn.y - y) / unit })));
  const { joint, kind, distance } = found.reduce((one, other) => other.distance < one.distance ? other : one);
  if (distance < NEAR) choose(joint, kind);
  else choose(null);
}

const down = new Map(); // pointers by their numbers: where they were last
svg.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  svg.setPointerCapture(event.pointerId);
  down.set(event.pointerId, event);
  point(event);
});
svg.addEventListener("pointermove", (event) => {
  const before = down.get(event.pointerId);
  if (!before) return point(event);
  down.set(event.pointerId, event);
  const other = [...down.values()].find(({ pointerId }) => pointerId !== event.pointerId);
  if (!other) {
    return turn(...["clientX", "clientY"].map((name) => DEGREES_PER_PIXEL * (event[name] - before[name])));
  }
  const [still, from, to] = [other, before, event].map(place);
  const apart = ({ x, y }) => Math.max(1, Math.hypot(x - still.x, y - still.y));
  return enlarge(apart(to) / apart(from), (to.x + still.x) / 2, (to.y + still.y) / 2);
});
for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, (event) => down.delete(event.pointerId));
svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && choose(null));
svg.addEventListener("dblclick", ACTIONS.Home);
svg.addEventListener("wheel", (event) => {
  // a page that is scrolled past the view must scroll on; ctrl is also how browsers tell a touchpad's pinch
  if (!event.ctrlKey && document.activeElement !== svg) return;
  const { x, y } = place(event);
  if (enlarge(Math.exp(-event.deltaY / 400), x, y) || event.ctrlKey) event.preventDefault();
}, { passive: false });
svg.addEventListener("keydown", (event) => {
  if (!(event.key in ACTIONS) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  ACTIONS[event.key]();
});
for (const button of view.querySelectorAll("button")) button.addEventListener("click", () => ACTIONS[button.value]());
form.addEventListener("change", show);
for (const button of document.querySelectorAll(".turn")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    form.elements.frame.value = button.value;
    show();
    view.scrollIntoView();
    svg.focus({ preventScroll: true });
  });
}
view.hidden = false;
show();
