"use strict";
// What every other script uses: the data of the page, and elements made without ever parsing text as HTML.

const byId = (id) => document.getElementById(id);
const data = (id) => JSON.parse(byId(id).textContent);
const about = data("about");
const rows = data("rows");
const HEADLINES = ["generated", "real", "undecided"];
const SVG = "http://www.w3.org/2000/svg";

// A name from a file must not mislead the reader: characters that do not print or that change the direction of text are escaped.
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;
const escaped = (c) => `\\u{${c.codePointAt(0).toString(16)}}`;
const visible = (text) => String(text).replace(UNPRINTABLE, escaped);

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(name, visible(value));
  }
  const kept = children.flat().filter((child) => child !== null && child !== undefined);
  made.append(...kept.map((child) => (child instanceof Node ? child : visible(child))));
  return made;
}

const element = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
const drawn = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

const labelOf = (one) => (one.label === undefined ? "" : about.labels[one.label]);
const fileOf = (row) => row.path.split(row.path.includes("/") ? "/" : "\\").pop() || row.path;
const stateOf = (row) => row.verdict ?? `!${row.status}`;
const ratioOf = (row, label) => row.ratios?.[about.labels.indexOf(label)] ?? null;
const disagrees = (row) => row.agreement !== undefined && row.agreement < 1;
const conflicts = (row) => (row.warnings ?? []).includes("metadata_conflict");
const meaning = (meanings, name, other) => (Object.hasOwn(meanings, name) ? meanings[name] : other);
const fixed = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
// A probability is never shown as certain because of rounding.
const chance = (value) => (value > 0 && value < 0.0005 ? "<0.001" : value < 1 && value >= 0.9995 ? ">0.999" : fixed(value, 3));
const signed = (value, digits) => (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(digits);
const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

// A line may break after an underscore in a name, and nowhere else.
const breakable = (name) => visible(name).split(/(?<=_)/).flatMap((part, i) => (i ? [element("wbr"), part] : [part]));

const listed = (names) => [names.slice(0, -1).join(", "), ...names.slice(-1)].filter(Boolean).join(" or ");
const candidatesOf = (row) => (row.candidates ?? []).map((one) => about.labels[one]);

// The generator, or the few that remain, as verdict.shown_name() writes it; empty if none is named.
function nameOf(row) {
  if (row.verdict === undefined) return "";
  if (!["real", "inconclusive"].includes(row.verdict)) return row.verdict === "unknown" ? "unknown generator" : row.verdict;
  const candidates = candidatesOf(row);
  return candidates.length === 1 ? `perhaps ${candidates[0]}` : listed(candidates);
}

const answerOf = (row) => (row.verdict === undefined ? `not judged: ${row.status}` : [row.headline, nameOf(row)].filter(Boolean).join(" "));

function badge(row) {
  const kind = row.verdict === undefined ? "bad" : HEADLINES.includes(row.headline) ? row.headline : "undecided";
  return element("span", { class: `badge ${kind}` }, breakable(row.verdict === undefined ? row.status : row.headline));
}

const chunks = new Map();

function thumbnailOf(number) {
  const chunk = Math.floor(number / about.chunk);
  if (!chunks.has(chunk)) chunks.set(chunk, data(`pictures-${chunk}`));
  const text = chunks.get(chunk)[number % about.chunk];
  return text.startsWith("!") ? { note: about.notes[text] } : { source: `data:image/webp;base64,${text}` };
}
