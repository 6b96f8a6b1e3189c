// The page of one image: what was found, what it rests on, and where in the image that lies.

const [SHOWN_WIDTH, SHOWN_HEIGHT] = [512, 560]; // pixels; a small image is enlarged to see its patches

function sentences(row) {
  if (row.verdict === undefined) return [`Not judged: ${row.reason ?? row.status}.`];
  const [label, confidence] = [labelOf(row), `confidence ${chance(row.confidence)}`];
  const candidates = (row.candidates ?? []).map((one) => about.labels[one]);
  const flips = Object.keys(row.stability?.flips ?? {});
  const threshold = `the threshold ${fixed(about.threshold, 3)}`;
  const text = [];
  if (row.verdict === label && label !== "unknown") {
    text.push(`${candidates.length === 1 ? `${label} is the only candidate left, and its` : "The"} ${confidence} reaches ${threshold}.`);
  } else if (row.verdict === "unknown") {
    text.push(`No known label explains the image. The most similar one is ${label} (${confidence}).`);
  } else if (candidates.length > 1) {
    text.push(`Left open: ${candidates.slice(0, -1).join(", ")} and ${candidates.at(-1)} are all still possible. The most similar one is ${label} (${confidence}).`);
  } else if (flips.length) {
    text.push(`Left open: the label does not survive re-encoding. The most similar one is ${label} (${confidence}).`);
  } else {
    text.push(`Left open: the most similar label is ${label}, but its ${confidence} and the candidates do not suffice for a name (${threshold}).`);
  }
  const techniques = (row.techniques ?? []).filter(Boolean);
  if (techniques.length > 1) {
    const agreeing = techniques.filter((one) => one.label === row.label).length;
    text.push(`${agreeing} of ${techniques.length} techniques put ${label} on top.`);
  }
  if (flips.length) text.push(`Another label comes out on top when the image is re-encoded as ${flips.join(", ")}.`);
  const ratio = ratioOf(row);
  if (ratio !== null) text.push(weight(label, ratio));
  return text;
}

function weight(label, ratio) {
  const times = (value) => (value >= 9.5 ? Math.round(value).toLocaleString("en") : value.toFixed(1));
  const start = `log10 LR ${signed(ratio, 2)}: `;
  if (Math.abs(ratio) < 0.05) return `${start}what was measured does not tell ${label} from the other known labels.`;
  const more = ratio > 0 ? "more" : "less";
  return `${start}what was measured is ${times(10 ** Math.abs(ratio))} times ${more} probable if the image is ${label === "real" ? label : `of ${label}`} than if it is of another known label.`;
}

function scoreBlock(title, one) {
  const line = (label, number) => {
    const score = one.scores?.[number] ?? null;
    const candidate = (one.candidates ?? []).includes(number);
    const ratio = one.ratios?.[number] ?? null;
    const bar = (kind) => drawn("svg", { class: kind, viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, drawn("rect", { width: 100 * (score ?? 0), height: 8 }));
    return element(
      "tr",
      { class: number === one.label ? "top-label" : null },
      element("th", { scope: "row" }, breakable(label), bar("bar under")),
      element("td", { class: "wide" }, bar("bar")),
      element("td", {}, chance(score)),
      element("td", {}, ratio === null ? "–" : signed(ratio, 2)),
      element("td", { class: "candidate" }, candidate ? "yes" : "·"),
    );
  };
  const head = ["label", "bar", "score", "log10 LR", "candidate"].map((name) =>
    name === "bar" ? element("th", { scope: "col", class: "wide" }, element("span", { class: "hidden" }, name)) : element("th", { scope: "col" }, name),
  );
  return element(
    "table",
    { class: "scores" },
    element("caption", {}, title),
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...about.labels.map(line)),
  );
}

function averaged(values) {
  // [techniques][labels][places] -> [labels][places]; a label that a technique lacks does not count
  return about.labels.map((_, label) => {
    const having = values.map((one) => one[label]).filter(Boolean);
    return having.length ? having[0].map((_, place) => having.reduce((sum, one) => sum + one[place], 0) / having.length) : null;
  });
}

function heat(map, values, width, height, name) {
  const occlusion = map.method === "occlusion";
  const most = occlusion ? Math.max(1e-9, ...values.map(Math.abs)) : 1;
  const lefts = [...new Set(map.places.map((place) => place[1] * width))].sort((a, b) => a - b);
  // Where patches overlap, their numbers must not
  const apart = Math.min(width, ...lefts.slice(1).map((left, i) => left - lefts[i]));
  const cells = map.places.map(([top, left, bottom, right], place) => {
    const value = values[place];
    const [w, h] = [(right - left) * width, (bottom - top) * height];
    const size = Math.min(w / 3, h / 3, apart / 3.2, Math.max(width, height) / 20);
    const tone = value < 0 ? "against" : "for";
    return drawn(
      "g",
      { class: tone },
      drawn("rect", { x: left * width, y: top * height, width: w, height: h, "fill-opacity": (0.55 * Math.abs(value)) / most, "stroke-width": Math.max(width, height) / 300 }),
      occlusion ? null : drawn("text", { x: left * width + w / 2, y: top * height + h / 2, "font-size": size, "stroke-width": size / 6 }, fixed(value, 2)),
      drawn("title", {}, occlusion ? signed(value, 3) : fixed(value, 3)),
    );
  });
  return drawn("svg", { class: "heat", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name }, ...cells);
}

function legend(map, values, label, technique) {
  if (map.method === "occlusion") {
    const most = Math.max(...values.map(Math.abs));
    return `Occlusion, by ${technique}: orange where covering a part with grey lowers the probability of ${label}, blue where it raises it; the strongest colour is ${fixed(most, 3)}.`;
  }
  if (map.places.length === 1) return "The image is one patch for these models; where in it the evidence lies cannot be told.";
  return `Patches, by ${technique}: the probability of ${label} when each of the ${map.places.length} patches is judged alone. Their scores are calibrated for whole images, so compare the patches with each other. What is not framed was not looked at; where patches overlap, their colours add up.`;
}

function placeTable(map, values) {
  const at = (side) => `${Math.round(100 * side)} %`;
  const lines = map.places.map(([top, left, bottom, right], place) =>
    element("tr", {}, element("td", {}, `${at(top)} to ${at(bottom)}`), element("td", {}, `${at(left)} to ${at(right)}`), element("td", {}, map.method === "occlusion" ? signed(values[place], 3) : fixed(values[place], 3))),
  );
  const head = ["from the top", "from the left", "value"].map((name) => element("th", { scope: "col" }, name));
  return element("details", {}, element("summary", {}, "The same as a table"), element("table", { class: "figures" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines)));
}

function evidenceFigure(row, number) {
  const found = data(`evidence-${number}`);
  const picture = () => element("img", { src: `data:image/webp;base64,${found.preview}`, alt: `The image ${fileOf(row)}` });
  const frame = element("div", { class: "frame" }, picture());
  const figure = element("figure", { class: "evidence" }, frame);
  const scale = Math.min(SHOWN_WIDTH / found.width, SHOWN_HEIGHT / found.height);
  frame.style.width = `${Math.round(found.width * scale)}px`;
  const spectrum = element(
    "figure",
    { class: "spectrum" },
    element("img", { src: `data:image/png;base64,${found.spectrum}`, width: 128, height: 128, alt: "Residual spectrum of the image" }),
    element("figcaption", {}, "Residual spectrum: bright points off the middle are periodic traces, as up-sampling leaves them; compression leaves some as well."),
  );
  if (!found.maps.length) {
    figure.append(element("figcaption", {}, "No evidence map: the models of the scan were not found."));
    return [figure, spectrum];
  }
  const names = found.maps.flatMap((map, i) => {
    const numbers = Object.keys(map.values);
    return [...(numbers.length > 1 ? [[`${i}:all`, "all techniques, averaged"]] : []), ...numbers.map((one) => [`${i}:${one}`, about.techniques[one]])];
  });
  const technique = element("select", { id: "map-technique" }, ...names.map(([value, name]) => element("option", { value }, name)));
  const label = element("select", { id: "map-label" }, ...about.labels.map((name, i) => element("option", { value: i }, name)));
  label.value = row.label;
  const mapShown = element("input", { type: "checkbox", id: "map-visible", checked: "" });
  const caption = element("figcaption", { "aria-live": "polite" });
  const draw = () => {
    const [i, which] = technique.value.split(":");
    const map = found.maps[i];
    const by = which === "all" ? averaged(Object.values(map.values)) : map.values[which];
    const values = by[label.value];
    const name = about.labels[label.value];
    frame.replaceChildren(picture(), ...(mapShown.checked && values ? [heat(map, values, found.width, found.height, `Evidence map for ${name}`)] : []));
    const words = values ? legend(map, values, name, technique.selectedOptions[0].textContent) : "This technique does not know the label.";
    caption.replaceChildren(element("p", {}, words), ...(values ? [placeTable(map, values)] : []));
  };
  const controls = element(
    "div",
    { class: "controls" },
    element("label", {}, "Evidence for ", label),
    names.length > 1 ? element("label", {}, "by ", technique) : null,
    element("label", { class: "check" }, mapShown, " show the map"),
  );
  controls.addEventListener("change", draw);
  figure.append(controls, caption);
  if (found.differs) figure.append(element("p", { class: "alert" }, `Computed again for this report, a score differs from the record by ${found.differs}; the map may not show what the verdict rests on.`));
  draw();
  return [figure, spectrum];
}

function pictureOf(row, number) {
  if (about.evidence.includes(number)) return evidenceFigure(row, number);
  const picture = thumbnailOf(number);
  const why = row.verdict === undefined || !picture.source ? "" : `No evidence map: this report has them for ${counted(about.evidence.length, "image")}, those of most interest first.`;
  return [
    element(
      "figure",
      { class: "evidence" },
      picture.source ? element("div", { class: "frame small" }, element("img", { src: picture.source, alt: `The image ${fileOf(row)}` })) : null,
      element("figcaption", {}, picture.note ?? why),
    ),
  ];
}

function tree(value) {
  if (value !== null && typeof value === "object" && !Object.keys(value).length) return "none";
  if (Array.isArray(value)) return element("ul", {}, ...value.map((one) => element("li", {}, tree(one))));
  if (value !== null && typeof value === "object") return pairs(Object.entries(value).map(([name, one]) => [name.replaceAll("_", " "), tree(one)]));
  return String(value ?? "none");
}

const pairs = (entries) => element("dl", { class: "facts" }, ...entries.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));

function section(title, ...children) {
  return element("section", {}, element("h3", {}, title), ...children);
}

function facts(row) {
  const size = row.width === undefined ? null : `${row.width} × ${row.height} pixels`;
  const entries = [
    ["Path", row.path],
    ["SHA-256", row.sha256 && element("code", {}, row.sha256)],
    ["Size", row.bytes === undefined ? null : counted(row.bytes, "byte")],
    ["Format", [row.format, size].filter(Boolean).join(", ") || null],
    ["Views judged", row.views ? String(row.views) : null],
    ["Copy of", row.duplicate_of],
    ["Perceptual hash", row.phash && element("code", {}, row.phash)],
    ["Status", row.status === "ok" ? null : `${row.status}: ${row.reason ?? ""}`],
  ];
  return section("File", pairs(entries.filter(([, value]) => value)));
}

function stability(found) {
  if (!found) return null;
  const flips = Object.entries(found.flips);
  return section(
    "Re-encoded and judged again",
    element("p", {}, `As ${found.reencodings.join(", ")}: the confidence in the label lies between ${chance(found.lowest)} and ${chance(found.highest)}.`),
    flips.length ? element("ul", {}, ...flips.map(([name, label]) => element("li", {}, `${name}: ${label} comes out on top`))) : element("p", {}, "The label is the same under each of them."),
  );
}

function claims(row) {
  if (!row.metadata) return null;
  const claimed = new Set(row.metadata.map((one) => one.claim));
  const maker = row.verdict === "real" && claimed.has("generated") ? "an AI made it" : "a camera took it, or that it was digitised";
  return section(
    "What the file says of itself",
    element("p", {}, "Anybody can write, forge or remove this, and it changes no verdict."),
    conflicts(row) ? element("p", { class: "alert" }, `Conflict: the file says that ${maker}, but the verdict is ${row.verdict}. Either may be wrong: what a file says can be forged or copied from another file, and a verdict is an indication.`) : null,
    pairs(row.metadata.map((one) => [one.source === "comment" ? "Comment" : one.source.toUpperCase(), [meaning(about.claims, one.claim, one.claim), element("code", { class: "value" }, one.value)]])),
  );
}

function imagePage(number) {
  const row = rows[number];
  const place = placeOf(number);
  const step = (to, text) => (shown.numbers[to] === undefined || place < 0 ? element("span", { class: "soft" }, text) : element("a", { href: `#image-${shown.numbers[to] + 1}` }, text));
  const techniques = (row.techniques ?? []).map((one, i) => one && scoreBlock(about.techniques[i], one)).filter(Boolean);
  const fused = about.ensemble && row.scores ? [scoreBlock(`all techniques, fused by ${about.ensemble}`, row)] : [];
  const warnings = (row.warnings ?? []).map((name) => element("li", {}, `${name.replaceAll("_", " ")}: ${meaning(about.warnings, name, "no description")}`));
  const more = Object.entries(row.more ?? {}).map(([name, value]) => section(name[0].toUpperCase() + name.slice(1).replaceAll("_", " "), tree(value)));
  return [
    element("nav", { class: "steps", "aria-label": "Images" }, element("a", { href: "#gallery", id: "back" }, "← All images"), element("span", {}, place < 0 ? "" : `${(place + 1).toLocaleString("en")} of ${shown.numbers.length.toLocaleString("en")}`), step(place - 1, "Previous"), step(place + 1, "Next")),
    element("h2", { id: "image-title", tabindex: -1 }, badge(row), " ", fileOf(row)),
    ...sentences(row).map((text) => element("p", { class: "finding" }, text)),
    element("div", { class: "look" }, ...pictureOf(row, number)),
    fused.length + techniques.length ? section("Scores", element("div", { class: "blocks" }, ...(techniques.length ? [...fused, ...techniques] : [scoreBlock("scores", row)]))) : null,
    warnings.length ? section("Warnings", element("ul", {}, ...warnings)) : null,
    stability(row.stability),
    claims(row),
    together(number),
    ...more,
    facts(row),
  ].filter(Boolean);
}
