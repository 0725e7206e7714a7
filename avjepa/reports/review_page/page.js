"use strict";
// The review page: a list, a map with before and after, pictures and fields of one change, and decisions by keyboard.
// Whatever comes from the data goes into the page by textContent, never as markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const GLYPHS = { insertion: "+", deletion: "−", geometry: "↔", markings: "◐", type: "┅", connectivity: "↱" };
const KEYS = [
  ["j / ↓ , k / ↑", "next, previous change"], ["a", "accept"], ["r", "reject"], ["n", "write a note; Esc leaves it"], ["u", "undo"],
  ["b", "before / both / after"], ["f, w", "zoom to this change, to all"], ["e", "export the decisions"], ["?", "this list"],
];
const STORE = `avjepa-review/${DATA.run_id}`;
const PICTURE_SHARE = 0.3; // of the window's height, at most
const SMALLEST_VIEW_M = 40, PAD = 1.7;
const at = (id) => document.getElementById(id);
const decided = (review) => review.decision !== "undecided" || review.note !== "";

// ------------------------------------------------------------------------------------------------------------- state
const changes = DATA.changes;
const reviews = new Map(changes.map((change) => [change.change_id, change.review]));
const said = new Map(); // change_id -> when this reviewer last decided on it; changes that nobody touched here have none
const past = []; // [change_id, review before, said before], for undo
const off = { kinds: new Set(), statuses: new Set() };
let picked = null; // a change
let view = { x: 0, y: 0, width: 100 }; // centre in metres, y up; width of the map in metres

// Kept are the changes that this reviewer touched alone, each with the review in the page that they started from.
function remember() {
  const from = (id) => changes.find((change) => change.change_id === id).review;
  const kept = [...said].map(([id, time]) => ({ id, from: from(id), review: reviews.get(id), said: time }));
  try { localStorage.setItem(STORE, JSON.stringify(kept)); } catch { /* storage is off: export still works */ }
}

// A page that was made again with a newer review of a change wins over what was kept of it.
function recall() {
  let kept = [];
  try { kept = JSON.parse(localStorage.getItem(STORE) ?? "[]"); } catch { /* not ours */ }
  for (const { id, from, review, said: time } of Array.isArray(kept) ? kept.filter(isKept) : []) {
    const now = reviews.get(id);
    const newer = !sameReview(now, from) && now.reviewed !== null && Date.parse(now.reviewed) > Date.parse(time);
    if (newer) continue;
    reviews.set(id, { decision: review.decision, note: review.note, reviewed: review.reviewed });
    said.set(id, time);
  }
}

const sameReview = (one, other) => ["decision", "note", "reviewed"].every((name) => one[name] === other[name]);
const isReview = (review) =>
  ["undecided", "accepted", "rejected"].includes(review?.decision) && typeof review.note === "string" &&
  (review.reviewed === null || Number.isFinite(Date.parse(review.reviewed)));
const isKept = (item) => reviews.has(item?.id) && isReview(item.from) && isReview(item.review) && Number.isFinite(Date.parse(item.said));

function say(id, words) {
  const before = reviews.get(id), after = { ...before, ...words };
  if (before.decision === after.decision && before.note === after.note) return;
  past.push([id, before, said.get(id)]);
  said.set(id, new Date().toISOString());
  after.reviewed = decided(after) ? said.get(id) : null;
  reviews.set(id, after);
  remember();
}

// ----------------------------------------------------------------------------------------------------------- building
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children); // strings become text
  return element;
}

const words = (name) => name.replaceAll("_", " ");
const titleOf = (change) => change.description || words(change.world_change || "not seen");
const number = (value, digits, unit = "") => (value === null ? "–" : value.toFixed(digits) + unit);
const moment = (text) => (text === null ? "never" : text.slice(0, 19).replace("T", " ") + " UTC");

function chips(place, values, glyphs, hidden) {
  for (const value of values) {
    const count = changes.filter((change) => change.atomic_change === value || change.status === value).length;
    const chip = make("button", { type: "button", "aria-pressed": "true" }, `${glyphs[value] ? glyphs[value] + " " : ""}${value} ${count}`);
    chip.addEventListener("click", () => {
      hidden.has(value) ? hidden.delete(value) : hidden.add(value);
      chip.setAttribute("aria-pressed", String(!hidden.has(value)));
      refresh();
    });
    place.append(chip);
  }
}

function visible() {
  const layer = at("layer").value, decision = at("decision").value, least = Number(at("confidence").value);
  return changes.filter((change) =>
    !off.kinds.has(change.atomic_change) && !off.statuses.has(change.status) && (!layer || change.layer === layer) &&
    (!decision || reviews.get(change.change_id).decision === decision) && change.confidence >= least);
}

// ---------------------------------------------------------------------------------------------------------------- map
function pathOf(shape) {
  const close = shape.area ? "Z" : "";
  return shape.lines.map((xy) => {
    const points = [];
    for (let i = 0; i < xy.length; i += 2) points.push(`${xy[i]} ${xy[i + 1]}`);
    return `M${points.join("L")}${close}`;
  }).join("");
}

function draw(parent, d, names) {
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", d);
  path.setAttribute("class", names);
  path.setAttribute("fill-rule", "evenodd");
  parent.append(path);
}

function drawMap() {
  for (const part of DATA.context) draw(at("context"), part.shapes.map(pathOf).join(""), part.names);
  for (const line of DATA.driven) draw(at("driven"), pathOf(line), "way");
  at("driven-key").hidden = DATA.driven.length === 0;
  for (const change of changes) {
    const group = document.createElementNS(SVG, "g");
    for (const [side, shape] of [["new", change.new], ["old", change.old]]) { // dashes on top: one line is seen on the other
      if (!shape) continue;
      draw(group, pathOf(shape), "grip");
      draw(group, pathOf(shape), side + (shape.area ? " area" : ""));
    }
    group.addEventListener("click", () => pick(change, false));
    change.group = group;
    at("changes").append(group);
  }
}

function boundsOf(some) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const shape of some.flatMap((change) => [change.old, change.new]).filter(Boolean)) {
    for (const xy of shape.lines) {
      for (let i = 0; i < xy.length; i += 2) {
        box[0] = Math.min(box[0], xy[i]); box[1] = Math.min(box[1], xy[i + 1]);
        box[2] = Math.max(box[2], xy[i]); box[3] = Math.max(box[3], xy[i + 1]);
      }
    }
  }
  return box;
}

function show(some) {
  if (some.length === 0) return;
  const [west, south, east, north] = boundsOf(some), size = at("map").getBoundingClientRect();
  const width = Math.max((east - west) * PAD, ((north - south) * PAD * size.width) / size.height, SMALLEST_VIEW_M);
  place({ x: (west + east) / 2, y: (south + north) / 2, width });
}

function place(next) {
  view = { ...next, width: Math.min(Math.max(next.width, 2), 20000) };
  const size = at("map").getBoundingClientRect(), height = (view.width * size.height) / Math.max(size.width, 1);
  at("canvas").setAttribute("viewBox", `${view.x - view.width / 2} ${-view.y - height / 2} ${view.width} ${height}`);
  at("world").setAttribute("transform", "scale(1,-1)");
  const steps = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000];
  const length = steps.findLast((step) => step < view.width / 5) ?? steps[0];
  at("scale-bar").style.width = `${(length / view.width) * size.width}px`;
  at("scale-text").textContent = `${length} m`;
}

function steerMap() {
  const map = at("map"), canvas = at("canvas");
  let drag = null;
  map.addEventListener("wheel", (event) => {
    event.preventDefault();
    const size = map.getBoundingClientRect(), factor = Math.exp(Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 100) * 0.0025);
    const dx = (event.clientX - size.left) / size.width - 0.5, dy = 0.5 * (size.height / size.width) - (event.clientY - size.top) / size.width;
    place({ x: view.x + dx * view.width * (1 - factor), y: view.y + dy * view.width * (1 - factor), width: view.width * factor });
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, view }; });
  window.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const metres = view.width / map.getBoundingClientRect().width;
    canvas.classList.add("dragging");
    place({ ...drag.view, x: drag.view.x - (event.clientX - drag.x) * metres, y: drag.view.y + (event.clientY - drag.y) * metres });
  });
  window.addEventListener("pointerup", () => { drag = null; canvas.classList.remove("dragging"); });
  new ResizeObserver(() => place(view)).observe(map);
}

function setView(name) {
  at("map").className = `map show-${name}`;
  for (const button of at("view").children) button.setAttribute("aria-pressed", String(button.dataset.view === name));
}

// ------------------------------------------------------------------------------------------------------- one change
function pick(change, move = true) {
  picked = change;
  refresh();
  if (move && change) show([change]);
  const row = change && at("list").querySelector('[aria-current="true"]');
  if (row) row.scrollIntoView({ block: "nearest" });
}

function fill(change) {
  at("kind-badge").textContent = `${GLYPHS[change.atomic_change]} ${change.atomic_change}`;
  at("status-badge").textContent = change.status;
  at("status-badge").className = `badge status ${change.status}`;
  at("heading").textContent = titleOf(change);
  at("fields").replaceChildren(...fieldsOf(change).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  at("evidence-title").hidden = change.evidence.length === 0;
  const head = make("tr", {}, ...["frame", "JEPA", "belief", "distance"].map((name) => make("th", {}, name)));
  at("evidence").replaceChildren(...(change.evidence.length ? [head] : []), ...change.evidence.map((seen) => {
    const first = make("td", { title: `${seen.frame}, ${moment(seen.seen)}` }, `${seen.scene} ${words(seen.camera.replace("CAM_", "")).toLowerCase()}`);
    return make("tr", {}, first, ...[number(seen.jepa_residual_log_odds, 1), number(seen.map_belief_log_odds, 1), number(seen.distance_m, 0, " m")].map((text) => make("td", {}, text)));
  }));
  at("evidence").title = "log-odds for the change, from the frozen encoder alone; – where it was not asked";
  at("pictures").replaceChildren(...(change.pictures.length ? change.pictures.map(figureOf) : [make("p", { class: "none" }, "no pictures of this change")]));
}

function fieldsOf(change) {
  const marking = change.old_marking || change.new_marking ? [["paint", `${change.old_marking || "unknown"} → ${change.new_marking || "unknown"}`]] : [];
  return [
    ["confidence", number(change.confidence, 2)], ["layer", words(change.layer)], ["element", change.element_id ?? "none: new in the world"],
    ["world change", words(change.world_change)], ["map edit (dual)", words(change.map_edit)], ...marking,
    ["moved by", change.hausdorff_m > 0 ? number(change.hausdorff_m, 2, " m") : "–"], ["position", change.position_sigma_m === null ? "–" : `± ${change.position_sigma_m.toFixed(2)} m`],
    ["seen by", `${change.n_traversals} drive${change.n_traversals === 1 ? "" : "s"}, ${change.n_frames} frames`],
    ["observed", `${Math.round(change.observed_fraction * 100)} %`], ["first seen", moment(change.first_seen)], ["last seen", moment(change.last_seen)],
    ["WGS84", `${change.latitude_deg.toFixed(7)}, ${change.longitude_deg.toFixed(7)}`],
    ["map", `${change.x_m.toFixed(1)}, ${change.y_m.toFixed(1)} m`], ["change id", change.change_id],
  ];
}

function figureOf(picture) {
  const image = make("img", { alt: picture.caption, src: picture.url });
  const figure = make("figure", {}, image, make("figcaption", { title: picture.caption }, picture.caption));
  image.addEventListener("load", () => { // all pictures of a change get one height
    const ratio = image.naturalWidth / image.naturalHeight;
    figure.style.flexGrow = ratio;
    figure.style.maxWidth = `${ratio * PICTURE_SHARE * window.innerHeight}px`;
  });
  image.addEventListener("click", () => {
    at("zoom-image").src = picture.url;
    at("zoom-image").alt = at("zoom-caption").textContent = picture.caption;
    at("zoom").showModal();
  });
  return figure;
}

// ------------------------------------------------------------------------------------------------------------ the page
function refresh() {
  const some = visible(), all = [...reviews.values()];
  if (!picked || !some.includes(picked)) picked = some.find((change) => changes.indexOf(change) > changes.indexOf(picked)) ?? some[0] ?? null;
  const shown = new Set(some);
  at("confidence-value").textContent = Number(at("confidence").value).toFixed(2);
  at("count").textContent = some.length === changes.length ? `${changes.length} changes` : `${some.length} of ${changes.length} changes`;
  if (some.map((change) => change.row).some((row, i) => row !== at("list").children[i]) || some.length !== at("list").children.length) {
    at("list").replaceChildren(...some.map((change) => change.row));
  }
  for (const change of changes) {
    const review = reviews.get(change.change_id);
    change.row.firstChild.setAttribute("aria-current", String(change === picked));
    change.mark.className = `mark ${review.decision}`;
    change.mark.textContent = { accepted: "✓", rejected: "✗", undecided: review.note ? "✎" : "" }[review.decision];
  }
  for (const change of changes) change.group.setAttribute("class", `${change === picked ? "picked" : ""} ${shown.has(change) ? "" : "hidden"}`);
  if (picked) at("changes").append(picked.group); // on top
  const accepted = all.filter((review) => review.decision === "accepted").length, rejected = all.filter((review) => review.decision === "rejected").length;
  at("bar-accepted").style.width = `${(100 * accepted) / Math.max(all.length, 1)}%`;
  at("bar-rejected").style.width = `${(100 * rejected) / Math.max(all.length, 1)}%`;
  at("progress").textContent = `${accepted + rejected} of ${all.length} decided: ${accepted} accepted, ${rejected} rejected`;
  at("undo").disabled = past.length === 0;
  at("detail").hidden = !picked;
  at("nothing").hidden = Boolean(picked);
  at("nothing").textContent = changes.length ? "No change passes the filters." : "No changes were found: the map agrees with the drives.";
  if (!picked) return at("pictures").replaceChildren();
  const review = reviews.get(picked.change_id);
  fill(picked);
  at("accept").setAttribute("aria-pressed", String(review.decision === "accepted"));
  at("reject").setAttribute("aria-pressed", String(review.decision === "rejected"));
  if (document.activeElement !== at("note")) at("note").value = review.note;
  at("reviewed").textContent = review.reviewed ? `${review.decision === "undecided" ? "noted" : review.decision}, ${moment(review.reviewed)}` : "";
}

function buildRow(change) {
  const filled = make("i", {});
  filled.style.width = `${change.confidence * 100}%`;
  change.mark = make("span", {});
  const row = make("button", { type: "button", "data-id": change.change_id },
    make("span", { class: `glyph ${change.status}`, title: `${change.atomic_change}, ${change.status}` }, GLYPHS[change.atomic_change]),
    make("span", { class: "what", title: titleOf(change) }, titleOf(change)), change.mark,
    make("span", { class: "more" }, make("span", {}, `${words(change.layer)} · ${change.status}`),
      make("span", { class: "sure" }, filled), make("span", {}, change.confidence.toFixed(2))));
  row.addEventListener("click", () => pick(change));
  change.row = make("li", {}, row);
}

function step(by) {
  const some = visible(), next = some[some.indexOf(picked) + by];
  if (next) pick(next);
}

function decide(decision) {
  if (!picked) return;
  const id = picked.change_id, repeated = reviews.get(id).decision === decision;
  const some = visible(), next = some[some.indexOf(picked) + 1] ?? picked;
  say(id, { decision: repeated ? "undecided" : decision });
  pick(repeated ? picked : next, !repeated && next !== picked);
}

function undo() {
  const last = past.pop();
  if (!last) return;
  const [id, review, time] = last;
  reviews.set(id, review);
  time === undefined ? said.delete(id) : said.set(id, time);
  remember();
  pick(changes.find((change) => change.change_id === id));
}

function exportDecisions() {
  const told = changes.filter((change) => decided(reviews.get(change.change_id)) || decided(change.review));
  const decisions = told.map((change) => ({ change_id: change.change_id, ...reviews.get(change.change_id) }));
  const content = { format: DATA.decisions_format, version: DATA.decisions_version, run_id: DATA.run_id, exported: new Date().toISOString(), decisions };
  const url = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2) + "\n"], { type: "application/json" }));
  make("a", { href: url, download: "decisions.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

const ACTIONS = {
  j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1), a: () => decide("accepted"), r: () => decide("rejected"),
  n: () => at("note").focus(), u: undo, e: exportDecisions, f: () => picked && show([picked]), w: () => show(visible()), "?": () => at("keys").showModal(),
  b: () => {
    const names = ["before", "both", "after"], now = names.findIndex((name) => at("map").classList.contains(`show-${name}`));
    setView(names[(now + 1) % 3]);
  },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target === at("note")) {
    if (event.key === "Escape") at("note").blur();
    return;
  }
  const { tagName } = event.target; // letters choose in a list of options, arrows move a slider
  const inField = tagName === "SELECT" || (tagName === "INPUT" && event.key.startsWith("Arrow"));
  if (!inField && Object.hasOwn(ACTIONS, event.key)) {
    event.preventDefault();
    ACTIONS[event.key]();
  }
});

recall();
at("title").textContent = `Map changes, ${DATA.city}`;
at("subtitle").textContent = `${DATA.prior_map} against ${DATA.scenes.length} drive${DATA.scenes.length === 1 ? "" : "s"} · run ${DATA.run_id}`;
at("warnings").textContent = DATA.warnings.join("\n");
at("warnings").hidden = !DATA.warnings.length;
at("subtitle").title = `made ${moment(DATA.created)} from ${DATA.scenes.join(", ")}`;
const present = (name) => [...new Set(changes.map((change) => change[name]))];
chips(at("kinds"), Object.keys(GLYPHS).filter((kind) => present("atomic_change").includes(kind)), GLYPHS, off.kinds);
chips(at("statuses"), DATA.statuses.filter((status) => present("status").includes(status)), {}, off.statuses);
at("layer").append(make("option", { value: "" }, "any layer"), ...present("layer").sort().map((layer) => make("option", { value: layer }, words(layer))));
at("key-list").append(...KEYS.flatMap(([key, what]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, what)]));
for (const id of ["layer", "decision"]) at(id).addEventListener("change", refresh);
at("confidence").addEventListener("input", refresh);
at("accept").addEventListener("click", () => decide("accepted"));
at("reject").addEventListener("click", () => decide("rejected"));
at("undo").addEventListener("click", undo);
at("export").addEventListener("click", exportDecisions);
at("help").addEventListener("click", ACTIONS["?"]);
at("fit").addEventListener("click", ACTIONS.f);
at("whole").addEventListener("click", ACTIONS.w);
at("note").addEventListener("change", () => { if (picked) say(picked.change_id, { note: at("note").value.trim() }); });
at("note").addEventListener("blur", refresh);
for (const button of at("view").children) button.addEventListener("click", () => setView(button.dataset.view));
for (const id of ["zoom", "keys"]) at(id).addEventListener("click", () => at(id).close());
changes.forEach(buildRow);
drawMap();
steerMap();
setView("both");
pick(changes[0] ?? null);
