// The gallery: which rows are shown and in which order, a page of them at a time.

const PAGE = 60;
// numbers: the row of each card; fit: for every row, whether the filters let it through
const shown = { numbers: [], fit: [], grouped: false, page: 0, current: 0 };
const placeOf = (number) => shown.numbers.indexOf(shown.grouped ? groupOf(number).members[0] : number);
// Unicode stores an accent either in the letter or as a mark that follows it
const searchable = (text) => text.toLowerCase().normalize("NFC");
const haystacks = new Array(rows.length);

function haystack(number) {
  if (haystacks[number] === undefined) {
    const row = rows[number];
    const claims = (row.metadata ?? []).flatMap((one) => [one.source, one.claim, one.value]);
    const words = [row.path, row.sha256, row.phash, answerOf(row), row.verdict, row.state, labelOf(row), row.status, row.reason, row.format, row.warnings];
    haystacks[number] = searchable([...words, ...claims].join("\n"));
  }
  return haystacks[number];
}

const KEYS = {
  file: (row) => fileOf(row).toLowerCase(),
  p: (row) => -(row.p_generated ?? -1),
  agreement: (row) => row.agreement ?? 2,
};

function inOrder() {
  const wish = byId("sort").value;
  let numbers = wish === "interest" ? [...about.interest] : rows.map((_, number) => number);
  const key = KEYS[wish];
  if (key) {
    const keys = rows.map(key);
    numbers.sort((a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : a - b));
  }
  if (shown.grouped) {
    // In order of interest a finding stands where its most interesting image would; else where the image on its card would
    const leads = numbers.map((number) => groupOf(number).members[0]);
    numbers = wish === "interest" ? [...new Set(leads)] : numbers.filter((number, i) => number === leads[i]);
  }
  return byId("down").checked ? numbers.reverse() : numbers;
}

function filter() {
  const words = searchable(byId("query").value).split(/\s+/).filter(Boolean);
  const [headline, verdict] = [byId("headline").value, byId("verdict").value];
  const [disagree, warned, conflict, mixed] = ["disagree", "warned", "conflict", "mixed"].map((id) => byId(id)?.checked);
  return (row, number) =>
    (!headline || row.headline === headline) &&
    (!verdict || stateOf(row) === verdict) &&
    (!disagree || disagrees(row)) &&
    (!warned || row.warnings !== undefined) &&
    (!conflict || conflicts(row)) &&
    (!mixed || groupOf(number).mixed) &&
    words.every((word) => haystack(number).includes(word));
}

function refilter() {
  shown.grouped = Boolean(byId("grouped")?.checked);
  shown.fit = rows.map(filter());
  shown.numbers = inOrder().filter((number) => (shown.grouped ? groupOf(number).members.some((one) => shown.fit[one]) : shown.fit[number]));
  shown.page = shown.current = 0;
  drawGallery();
}

function card(number, place, loading) {
  const row = rows[number];
  const picture = thumbnailOf(number);
  const { members, mixed } = shown.grouped ? groupOf(number) : alone(number);
  const fitting = members.filter((one) => shown.fit[one]).length;
  const flags = [];
  if (fitting < members.length) flags.push(`${fitting} of ${members.length} match`);
  if (mixed) flags.push("answers differ");
  if (!shown.grouped && row.duplicate_of !== undefined) flags.push("copy");
  if (row.reason) flags.push(row.reason);
  if (disagrees(row)) flags.push("techniques disagree");
  if (row.stability && Object.keys(row.stability.flips).length) flags.push("changes when re-encoded");
  if (row.warnings) flags.push(row.warnings.join(", ").replaceAll("_", " "));
  const measured = [row.p_generated === undefined ? null : `p ${chance(row.p_generated)}`, row.state].filter(Boolean).join(" · ");
  const many = members.length > 1 ? element("span", { class: "many" }, counted(members.length, "file")) : null;
  return element(
    "li",
    {},
    element(
      "a",
      { class: `card ${row.headline ?? "bad"}${many ? " stack" : ""}`, href: `#image-${number + 1}`, "data-place": place, tabindex: place === shown.current ? 0 : -1 },
      picture.source
        ? element("span", { class: "thumb" }, element("img", { src: picture.source, alt: "", loading, decoding: "async" }), many)
        : element("span", { class: "thumb none" }, picture.note.replace(/^No picture: /, ""), many),
      element("span", { class: "line" }, badge(row), nameOf(row) ? element("span", { class: "who" }, breakable(nameOf(row))) : null),
      row.strength ? element("span", { class: "strength" }, row.strength) : null,
      measured ? element("span", { class: "number" }, measured) : null,
      element("span", { class: "name", title: row.path }, fileOf(row)),
      flags.length ? element("span", { class: "flags" }, flags.join(" · ")) : null,
    ),
  );
}

function drawGallery(size = PAGE) {
  const pages = Math.max(1, Math.ceil(shown.numbers.length / size));
  shown.page = Math.min(Math.max(0, shown.page), pages - 1);
  const start = shown.page * size;
  shown.current = Math.min(Math.max(shown.current, start), Math.max(start, Math.min(start + size, shown.numbers.length) - 1));
  byId("cards").replaceChildren(...shown.numbers.slice(start, start + size).map((number, i) => card(number, start + i, size === PAGE ? "lazy" : "eager")));
  const [most, noun] = shown.grouped ? [CARDS, "card"] : [rows.length, "file"];
  const all = shown.numbers.length < most ? `${shown.numbers.length.toLocaleString("en")} of ${counted(most, noun)}` : counted(rows.length, "file") + (shown.grouped ? ` on ${counted(most, noun)}` : "");
  byId("count").textContent = shown.numbers.length
    ? `${all}${pages > 1 ? `, page ${shown.page + 1} of ${pages}` : ""}`
    : `None of ${counted(rows.length, "file")} matches; clear the filters to see them all.`;
  byId("pages").hidden = pages === 1;
  byId("page").value = shown.page + 1;
  byId("page").max = pages;
  byId("last").textContent = `of ${pages}`;
  byId("earlier").disabled = shown.page === 0;
  byId("later").disabled = shown.page === pages - 1;
}

// Paper has no pages to turn: print all cards
function drawForPaper() {
  const { page, current } = shown;
  drawGallery(Math.max(PAGE, shown.numbers.length));
  Object.assign(shown, { page, current });
}

const cardAt = (place) => byId("cards").querySelector(`[data-place="${place}"]`);

function focusCard(place) {
  shown.current = Math.min(Math.max(0, place), shown.numbers.length - 1);
  const page = Math.floor(shown.current / PAGE);
  if (page !== shown.page) {
    shown.page = page;
    drawGallery();
  }
  for (const one of byId("cards").querySelectorAll(".card")) one.tabIndex = -1;
  const target = cardAt(shown.current);
  if (target) {
    target.tabIndex = 0;
    target.focus();
  }
}

function turnTo(page) {
  shown.page = page;
  shown.current = page * PAGE;
  drawGallery();
  byId("gallery").scrollIntoView();
}

function columns() {
  return getComputedStyle(byId("cards")).gridTemplateColumns.split(" ").length;
}

function startGallery() {
  const met = new Set(rows.map((row) => row.headline));
  byId("headline").append(...HEADLINES.filter((name) => met.has(name)).map((name) => element("option", { value: name }, name)));
  const words = (state) => ({ inconclusive: "none named", unknown: "unknown generator" })[state] ?? state.replace(/^!/, "not judged: ");
  const states = [...new Set(rows.map(stateOf))].filter((state) => state !== "real").sort();
  byId("verdict").append(...states.map((state) => element("option", { value: state }, words(state))));
  byId("more").open = !matchMedia("(max-width: 40rem)").matches; // a phone shows the images first
  for (const change of ["input", "change"]) byId("filters").addEventListener(change, refilter);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("reset", () => setTimeout(refilter));
  byId("earlier").addEventListener("click", () => turnTo(shown.page - 1));
  byId("later").addEventListener("click", () => turnTo(shown.page + 1));
  byId("page").addEventListener("change", (event) => turnTo((Number(event.target.value) || 1) - 1));
  for (const one of document.querySelectorAll(".pick")) {
    one.addEventListener("click", () => {
      byId("filters").reset();
      byId("verdict").value = one.dataset.verdict ?? "";
      byId("headline").value = one.dataset.headline ?? "";
      if (one.dataset.check) byId(one.dataset.check).checked = true;
      setTimeout(() => {
        refilter();
        byId("gallery").scrollIntoView();
        byId("gallery").focus({ preventScroll: true });
      });
    });
  }
  refilter();
}
