"use strict";
// One state, one function that draws it. Text goes in as text: nothing from a catalogue is markup.
const $ = (id) => document.getElementById(id);
const state = { history: [], about: null, asked: 0, open: new Set() };

function make(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

async function ask(path, message) {
  const headers = { "content-type": "application/json" };
  const token = sessionStorage.getItem("token");
  if (token) headers.authorization = `Bearer ${token}`;
  const options = message ? { method: "POST", headers, body: JSON.stringify(message) } : { headers };
  const response = await fetch(path, options);
  const found = await response.json();
  if (response.status === 401) $("token-row").hidden = false;
  if (!response.ok) throw new Error(found.message || response.statusText);
  return found;
}

function number(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 1e5) ? value.toExponential(1) : value.toFixed(3);
}

function policy() {
  const value = (id) => Number($(id).value);
  const written = { ...state.about.serving.policy, exclude_seen: $("exclude_seen").checked };
  if (value("diversity_weight") > 0) {
    const name = document.querySelector("[name=diversity]:checked").value;
    const similarity = state.about.serving.sources.includes("model") ? "vectors" : $("quota_column").value;
    written.diversity = { name, weight: value("diversity_weight"), similarity };
  }
  if (value("fresh") > 0) written.freshness = { column: state.fresh, weight: value("fresh") };
  if (value("quota") <= 10) {
    written.quotas = [{ column: $("quota_column").value, at_most: value("quota"), within: value("k") }];
  }
  if (value("epsilon") > 0) written.exploration = { name: "epsilon", share: value("epsilon") };
  return written;
}

function row(rank, item, ...extra) {
  const score = extra.length ? extra : [number(item.score)];
  return make("div", { class: "row" }, make("span", { class: "n" }, String(rank)),
    make("span", { class: "t" }, item.title || String(item.item_id)), make("span", { class: "s" }, ...score));
}

function list(items) {
  if (!items.length) return make("p", { class: "quiet" }, "Nothing.");
  return make("ol", { class: "items" }, ...items.map((item, n) => make("li", {}, row(n + 1, item))));
}

function bars(title, shares, label) {
  if (!shares.length) return null;
  const most = Math.max(...shares.map((one) => Math.abs(one.share)), 1e-12);
  const lines = shares.map((one) => {
    const width = 42 * Math.abs(one.share) / most;
    const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [kind, x, wide] of [["base", 41.5, 1], [one.share < 0 ? "minus" : "plus", one.share < 0 ? 42 - width : 42, width]]) {
      const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [name, value] of Object.entries({ class: kind, x, y: 0, width: wide, height: 9 })) box.setAttribute(name, value);
      picture.append(box);
    }
    return make("div", { class: "bar" }, make("span", {}, label(one)), picture, make("span", { class: "s" }, number(one.share)));
  });
  return make("div", {}, make("h3", {}, title), ...lines);
}

function why(one) {
  const proposed = one.proposed.map((by) => `${by.source} #${by.rank}`).join(", ");
  const moves = one.moves.map((move) => `${move.rule}: ${move.before} → ${move.after}`).join(", ");
  return make("div", { class: "why" },
    make("div", {}, `Proposed by ${proposed || "no source: filled up"}`),
    moves ? make("div", {}, `Moved by ${moves}`) : null,
    bars("Events that carried it", one.events, (share) => share.title || String(share.item_id)),
    bars("Other inputs of the model", one.inputs, (share) => share.name),
    bars("Ranking features", one.features.slice(0, 8), (share) => share.value === null ? share.name : `${share.name} = ${number(share.value)}`));
}

function moved(one) {
  if (!one.moves.length) return null;
  const gain = one.moves[0].before - one.rank;
  return gain === 0 ? null : make("span", { class: gain > 0 ? "up" : "down" }, gain > 0 ? `▲${gain} ` : `▼${-gain} `);
}

function answer(found, others) {
  const lines = found.answer.items.map((item, n) => {
    const one = found.explanations[n];
    const chance = item.propensity !== undefined && item.propensity < 1 ? `p ${item.propensity.toFixed(2)} ` : null;
    const head = row(n + 1, item, ...[moved(one), chance, number(item.score)].filter(Boolean));
    if (others && others.has(item.item_id)) head.classList.add("same");
    const box = make("details", { ontoggle: () => state.open[box.open ? "add" : "delete"](item.item_id) },
      make("summary", {}, head), why(one));
    box.open = state.open.has(item.item_id);
    return make("li", {}, box);
  });
  return lines.length ? make("ol", { class: "items" }, ...lines) : make("p", { class: "quiet" }, "Nothing may be recommended.");
}

function fill(id, ...nodes) {
  document.querySelector(`#${id} .body`).replaceChildren(...nodes);
}

function draw(found, other) {
  const parts = Object.entries(found.candidates).flatMap(([name, items]) =>
    [make("h3", {}, items.length > 8 ? `${name}, the best 8` : name), list(items.slice(0, 8))]);
  fill("step-candidates", ...parts);
  fill("step-ranked", list(found.ranked.slice(0, 24)));
  const ids = (one) => new Set(one.answer.items.map((item) => item.item_id));
  fill("step-answer", answer(found, other && ids(other)));
  $("degraded").textContent = found.answer.degraded.join(", ");
  $("step-compared").hidden = !other;
  $("results").classList.toggle("two", Boolean(other));
  if (other) {
    const both = [...ids(other)].filter((id) => ids(found).has(id)).length;
    fill("step-compared", make("p", { class: "quiet" }, `${other.answer.bundle_version}: ${both} of ${other.answer.items.length} in both, shaded`), answer(other, ids(found)));
  }
}

async function update() {
  const turn = ++state.asked;
  $("empty").hidden = state.history.length > 0;
  $("clear").hidden = state.history.length === 0;
  $("history").replaceChildren(...state.history.map((item, n) => make("li", {}, item.title,
    make("button", { type: "button", "aria-label": `Remove ${item.title}`, onclick: () => { state.history.splice(n, 1); update(); } }, "✕"))));
  for (const output of document.querySelectorAll("output")) {
    const id = output.htmlFor.value;
    output.textContent = id === "quota" && $(id).value > 10 ? "any number" : $(id).value;
  }
  document.body.classList.add("busy");
  const message = { history: state.history.map((item) => item.item_id), k: Number($("k").value), policy: policy(), shown_candidates: 30 };
  try {
    const asked = [ask("v1/explain", message)];
    if (state.about.compared) asked.push(ask("v1/explain", { ...message, bundle: "compared" }));
    const [found, other] = await Promise.all(asked);
    if (turn !== state.asked) return; // a later question is under way
    draw(found, other);
    $("fault").hidden = true;
  } catch (error) {
    if (turn === state.asked) fail(error);
  }
  document.body.classList.remove("busy");
}

function fail(error) {
  $("fault").textContent = error.message;
  $("fault").hidden = false;
}

function later(call, milliseconds) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(call, milliseconds); };
}

function choose(item) {
  state.history.push(item);
  $("search").value = "";
  close();
  update();
}

function close() {
  $("found").hidden = true;
  $("search").setAttribute("aria-expanded", "false");
}

async function search() {
  const text = $("search").value;
  if (!text.trim()) return close();
  try {
    const found = await ask(`v1/titles?q=${encodeURIComponent(text)}`);
    if (text !== $("search").value) return;
    const lines = found.map((item, n) => make("li", { role: "option", "aria-selected": String(n === 0), onmousedown: (event) => { event.preventDefault(); choose(item); } }, item.title));
    $("found").replaceChildren(...(lines.length ? lines : [make("li", { class: "quiet" }, "Nothing of that name")]));
    $("found").hidden = false;
    $("search").setAttribute("aria-expanded", "true");
    $("search").onkeydown = (event) => {
      const now = lines.findIndex((line) => line.getAttribute("aria-selected") === "true");
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (event.key === "Enter") { event.preventDefault(); if (found[now] && !$("found").hidden) choose(found[now]); }
      if (event.key === "Escape") close();
      if (step && lines.length) {
        event.preventDefault();
        const next = (now + step + lines.length) % lines.length;
        lines.forEach((line, n) => line.setAttribute("aria-selected", String(n === next)));
        lines[next].scrollIntoView({ block: "nearest" });
      }
    };
  } catch (error) { fail(error); }
}

async function start() {
  try {
    state.about = await ask("v1/about");
  } catch (error) { return fail(error); }
  const { serving, compared } = state.about;
  const size = serving.num_items.toLocaleString("en");
  $("about").textContent = `bundle ${serving.bundle_version} · ${size} items · ${serving.sources.join(", ")}${serving.ranker ? " · ranker" : ""}${compared ? ` · beside ${compared.bundle_version}` : ""}`;
  const named = (...kinds) => serving.columns.filter((column) => kinds.includes(column.kind)).map((column) => column.name);
  state.fresh = named("timestamp")[0];
  $("fresh-row").hidden = !state.fresh;
  const categories = named("category", "categories");
  $("quota_column").replaceChildren(...categories.map((name) => make("option", { value: name }, name)));
  $("quota-row").hidden = !categories.length;
  update();
}

$("controls").addEventListener("submit", (event) => event.preventDefault());
$("policy").addEventListener("input", later(update, 80));
$("search").addEventListener("input", later(search, 60));
$("search").addEventListener("blur", close);
$("clear").addEventListener("click", () => { state.history = []; update(); });
$("token").addEventListener("change", () => { sessionStorage.setItem("token", $("token").value); start(); });
start();
