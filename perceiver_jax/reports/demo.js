// SPDX-License-Identifier: Apache-2.0
// The page of reports/demo.py: draws two epochs of the attention maps beside each other, as the controls say.
// A map is uint8 (its peak is 255); `numbers` holds deviation, share of the greatest entropy and peak of each map.
// Attention is relative: 1 is what each input would get if all got the same.
"use strict";

const CONTROLS = ["example", "stage", "head", "latent", "colormap", "alpha", "left", "right"];
const SIDES = ["left", "right"];
const CURVES = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666"];
const POLL = 2000; // milliseconds between two questions to --serve
const LETTERS = 32; // in a row of a text
const BRIGHTEST = 0.99; // of the values are below the end of the colours
const problems = [];
let data, maps, numbers, timer;
let camera = { eye: { x: 1, y: 1, z: 0.8 } }; // of both clouds

window.addEventListener("error", (event) => problems.push(event.message));
window.addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
document.addEventListener("securitypolicyviolation", (event) => problems.push("blocked: " + event.blockedURI));

const element = (id) => document.getElementById(id);
const value = (id) => Number(element(id).value);

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function fill(id, words) {
  const before = element(id).value;
  element(id).replaceChildren(...words.map((word, k) => new Option(word, k)));
  if (before !== "" && Number(before) < words.length) element(id).value = before;
}

// Takes in what reports/demo.py gives; choices stay as they are, and a side at the newest epoch follows it.
function take(fresh) {
  const newest = SIDES.map((side) => data !== undefined && value(side) === data.steps.length - 1);
  const first = data === undefined;
  data = fresh;
  maps = data.maps.map(bytes);
  numbers = data.numbers.map((text) => new Float32Array(bytes(text).buffer));
  const count = (n, word) => Array.from({ length: n }, (_, k) => `${word}${k + 1}`);
  fill("example", data.examples.map((example) => example.title));
  fill("stage", count(data.stages, ""));
  fill("head", ["mean", ...count(data.heads, "")]);
  fill("latent", ["mean", ...data.latents.map((latent) => `${latent + 1}`)]);
  fill("colormap", data.colormaps.map((map) => map.name));
  data.colormaps.forEach((map, k) => (element("colormap").options[k].title = map.use));
  SIDES.forEach((side, k) => {
    element(side).max = data.steps.length - 1;
    if (first) element(side).value = data.start[k];
    else if (newest[k] && k === 1) element(side).value = data.steps.length - 1;
  });
  element("about").textContent = data.about;
}

// The map and the numbers of a side.
function chosen(side) {
  const latents = data.latents.length + 1, heads = data.heads + 1, step = value(side);
  const place = ((value("example") * data.stages + value("stage")) * heads + value("head")) * latents + value("latent");
  const [deviation, entropy, peak] = numbers[step].subarray(3 * place, 3 * place + 3);
  const levels = maps[step].subarray(place * data.inputs, (place + 1) * data.inputs);
  const length = data.examples[value("example")].length;
  return { values: Array.from(levels.subarray(0, length), (level) => (level / 255) * peak), deviation, entropy, peak };
}

function axes(k) {
  const n = k ? String(k + 1) : "";
  return { x: "x" + n, y: "y" + n, xaxis: "xaxis" + n, yaxis: "yaxis" + n, scene: "scene" + n };
}

function rows(values, width) {
  return Array.from({ length: Math.ceil(values.length / width) }, (_, r) => values.slice(r * width, (r + 1) * width));
}

// Each kind: (example, values, look, k) -> its traces and its axes.
const DRAW = {
  image(example, values, look, k) {
    const [height, width] = data.grid, patch = example.width / width, a = axes(k);
    const heat = { type: "heatmap", z: rows(values, width), x0: (patch - 1) / 2, dx: patch, y0: (example.height / height - 1) / 2, dy: example.height / height, hovertemplate: "row %{y}, column %{x}: %{z:.3g}<extra></extra>" };
    const under = { type: "image", source: example.image, hoverinfo: "skip" };
    const hidden = { showgrid: false, zeroline: false, showticklabels: false, ticks: "" };
    const layout = { [a.xaxis]: { ...hidden, range: [-0.5, example.width - 0.5], constrain: "domain" }, [a.yaxis]: { ...hidden, range: [example.height - 0.5, -0.5], scaleanchor: a.x, constrain: "domain" } };
    return [[under, { ...heat, ...look.map, opacity: look.alpha }].map((trace) => ({ ...trace, xaxis: a.x, yaxis: a.y })), layout];
  },
  points(example, values, look, k) {
    const [x, y, z] = example.points, a = axes(k), { zmin, zmax, ...color } = look.map;
    const marker = { size: 4, color: values, cmin: zmin, cmax: zmax, opacity: look.alpha, line: { width: 0 }, ...color };
    const trace = { type: "scatter3d", mode: "markers", x, y, z, marker, scene: a.scene, customdata: values, hovertemplate: "%{customdata:.3g}<extra></extra>" };
    const hidden = { visible: false };
    return [[trace], { [a.scene]: { xaxis: hidden, yaxis: hidden, zaxis: hidden, aspectmode: "data", camera } }];
  },
  sequence(example, values, look, k) {
    const a = axes(k), all = example.curves.flat(), low = Math.min(...all), high = Math.max(...all);
    const heat = { type: "heatmap", z: [values], y0: (low + high) / 2, dy: (high - low) * 1.1 || 1, hovertemplate: "time %{x}: %{z:.3g}<extra></extra>", ...look.map, opacity: look.alpha };
    const stroke = (y, color, width) => ({ type: "scatter", mode: "lines", y, line: { color, width }, hoverinfo: "skip" });
    const curves = example.curves.flatMap((y, n) => [stroke(y, "#ffffff", 4), stroke(y, CURVES[n % CURVES.length], 1.5)]); // seen on any colour
    return [[heat, ...curves].map((trace) => ({ ...trace, xaxis: a.x, yaxis: a.y })), { [a.xaxis]: { title: { text: "time" }, showgrid: false, zeroline: false }, [a.yaxis]: { showgrid: false, zeroline: false } }];
  },
  text(example, values, look, k) {
    const a = axes(k), letters = example.letters, place = (n) => [n % LETTERS, Math.floor(n / LETTERS)];
    const heat = { type: "heatmap", z: rows(values, LETTERS), hovertemplate: "%{z:.3g}<extra></extra>", ...look.map, opacity: look.alpha };
    const color = values.map((v) => (brightness(v / look.map.zmax, look.map.colorscale) * look.alpha + 255 * (1 - look.alpha) > 130 ? "#000" : "#fff"));
    const words = { type: "scatter", mode: "text", x: letters.map((_, n) => place(n)[0]), y: letters.map((_, n) => place(n)[1]), text: letters, textfont: { family: "monospace", size: 14, color }, hoverinfo: "skip" };
    const hidden = { showgrid: false, zeroline: false, showticklabels: false, ticks: "" };
    return [[heat, words].map((trace) => ({ ...trace, xaxis: a.x, yaxis: a.y })), { [a.xaxis]: hidden, [a.yaxis]: { ...hidden, range: [Math.max(values.length / LETTERS, 8) - 0.5, -0.5] } }];
  },
};

// The chosen colours from 0 to `end`; of diverging ones the middle is 1, even attention.
function colors(end) {
  const { scale, diverging } = data.colormaps[value("colormap")], middle = diverging ? 1 / end : 0.5;
  return scale.map(([place, color]) => [place <= 0.5 ? 2 * place * middle : middle + (2 * place - 1) * (1 - middle), color]);
}

function brightness(share, colorscale) {
  const [, color] = colorscale.find(([place]) => place >= share) ?? colorscale.at(-1);
  const [r, g, b] = color.match(/\d+/g).map(Number);
  return 0.3 * r + 0.59 * g + 0.11 * b;
}

// Where colours end: an outlier would leave all else dark.
function brightest(values) {
  const sorted = Float32Array.from(values).sort();
  return Math.max(sorted[Math.floor(BRIGHTEST * (sorted.length - 1))], 1.001);
}

function title(side) {
  return `epoch ${data.epochs[value(side)]}`;
}

// Draws what the controls say. Both sides have one colour scale, or their colours would not compare.
function draw() {
  const example = data.examples[value("example")], both = SIDES.map(chosen);
  const zmax = brightest(both.flatMap((one) => one.values)), colorscale = colors(zmax);
  const layout = { grid: { rows: 1, columns: 2, pattern: "independent" }, margin: { l: 40, r: 10, t: 60, b: 40 }, showlegend: false, annotations: [], title: { text: heading(example), font: { size: 14 } } };
  const traces = both.flatMap((one, k) => {
    const map = { colorscale, zmin: 0, zmax, showscale: k === 1, colorbar: { title: { text: "attention<br>(1 = even)" }, tickformat: ".2~g" } };
    const [some, own] = DRAW[data.kind](example, one.values, { map, alpha: value("alpha") }, k);
    Object.assign(layout, own);
    layout.annotations.push({ text: `<b>${title(SIDES[k])}</b>`, x: k ? 0.775 : 0.225, y: 1.06, xref: "paper", yref: "paper", showarrow: false });
    return some;
  });
  if (data.kind === "points") {
    delete layout.grid;
    [layout.scene.domain, layout.scene2.domain] = [{ x: [0, 0.48] }, { x: [0.52, 1] }];
  }
  SIDES.forEach((side, k) => {
    element(side + "-value").textContent = title(side);
    element(side + "-numbers").textContent = report(both[k], example.guesses[value(side)]);
  });
  element("use").textContent = `${data.colormaps[value("colormap")].name}: ${data.colormaps[value("colormap")].use}`;
  element("alpha-value").textContent = value("alpha").toFixed(2);
  return Plotly.react("plot", traces, layout, { responsive: true, displaylogo: false });
}

function heading(example) {
  const word = (id) => element(id).selectedOptions[0].text;
  return `${example.title}; stage ${word("stage")}, head ${word("head")}, latent ${word("latent")}`.replaceAll("<", "&lt;");
}

function report(one, guess) {
  const numbers = `deviation ${one.deviation.toPrecision(3)}, peak ${one.peak.toPrecision(3)}, entropy ${(100 * one.entropy).toFixed(1)} % of the greatest`;
  return `${numbers}; predicted: ${guess}`;
}

function save(format) {
  const epochs = SIDES.map((side) => data.epochs[value(side)]).join("-");
  return Plotly.downloadImage("plot", { format, width: 1280, height: 620, filename: `attention-epochs-${epochs}` });
}

// Turns the other cloud as well.
function turn(event) {
  const turned = event["scene.camera"] ?? event["scene2.camera"];
  if (turned === undefined || JSON.stringify(turned) === JSON.stringify(camera)) return;
  camera = turned;
  draw();
}

// Lets the right side walk through all epochs.
function play() {
  clearInterval(timer);
  timer = timer ? undefined : setInterval(() => {
    element("right").value = (value("right") + 1) % data.steps.length;
    draw();
  }, 700);
  element("play").textContent = timer ? "stop" : "play";
}

async function poll() {
  try {
    const answer = await fetch("data.json?have=" + encodeURIComponent(data.version));
    if (answer.status === 200) {
      take(await answer.json());
      await draw();
    }
    element("status").textContent = `live; newest: epoch ${data.epochs.at(-1)}`;
  } catch {
    element("status").textContent = "the server is gone; this is what it last showed";
  }
  setTimeout(poll, POLL);
}

// #selfcheck: uses every control and both exports, and writes what happened into the page as JSON.
async function selfcheck() {
  const size = { width: 640, height: 320 }, changed = {};
  const picture = () => { // without its words, which say what the controls say
    const { data: traces, layout } = element("plot");
    return Plotly.toImage({ data: traces, layout: { ...layout, title: {}, annotations: [] } }, { format: "png", ...size });
  };
  const steady = (await picture()) === (await picture());
  for (const id of CONTROLS) {
    const control = element(id), before = control.value, old = await picture();
    const last = control.tagName === "SELECT" ? control.options.length - 1 : Number(control.max);
    control.value = Number(before) === last ? Number(control.min || 0) : last;
    control.dispatchEvent(new Event("input"));
    await draw();
    changed[id] = (await picture()) !== old;
    control.value = before;
    await draw();
  }
  const saved = await Promise.all(["png", "svg"].map((format) => Plotly.toImage("plot", { format, ...size })));
  const asked = performance.getEntriesByType("resource").map((entry) => entry.name).filter((name) => !/^(data|blob):/.test(name));
  const place = document.createElement("pre");
  place.id = "selfcheck";
  place.textContent = JSON.stringify({ steady, changed, saved: saved.map((text) => text.slice(0, 18)), asked, problems });
  document.body.append(place);
}

take(JSON.parse(element("data").textContent));
CONTROLS.forEach((id) => element(id).addEventListener("input", draw));
element("play").addEventListener("click", play);
element("png").addEventListener("click", () => save("png"));
element("svg").addEventListener("click", () => save("svg"));
draw().then(() => {
  element("plot").on("plotly_relayout", turn);
  if (location.hash === "#selfcheck") selfcheck();
  if (location.protocol.startsWith("http")) poll();
});
