// Findings: copies and near-duplicates, as one card of the gallery and as a list on the page of each image.

const MEMBERS = 60; // of a finding that are listed at once
const alone = (number) => ({ members: [number], mixed: false });
const groups = new Map();
for (const members of about.groups) {
  const group = { members, mixed: new Set(members.map((number) => `${rows[number].headline} ${stateOf(rows[number])}`)).size > 1 };
  for (const number of members) groups.set(number, group);
}
const groupOf = (number) => groups.get(number) ?? alone(number);
const CARDS = rows.length - about.groups.reduce((sum, members) => sum + members.length - 1, 0);

function member(number, current) {
  const [row, picture] = [rows[number], thumbnailOf(number)];
  const isCopy = row.sha256 !== undefined && row.sha256 === rows[current].sha256;
  return element(
    "li",
    {},
    element(
      "a",
      { class: "member", href: `#image-${number + 1}`, "aria-current": number === current ? "page" : null },
      element("span", { class: "thumb small" }, picture.source ? element("img", { src: picture.source, alt: "" }) : null),
      element("span", {}, element("span", { class: "path" }, row.path), badge(row), " ", nameOf(row) ? element("span", {}, breakable(nameOf(row)), " ") : null, element("span", { class: "soft" }, number === current ? "this image" : isCopy ? "copy" : "near-duplicate")),
    ),
  );
}

function together(current) {
  const { members, mixed } = groupOf(current);
  if (members.length === 1) return null;
  const answers = new Map();
  for (const number of members) answers.set(answerOf(rows[number]), (answers.get(answerOf(rows[number])) ?? 0) + 1);
  const tally = [...answers].map(([answer, count]) => `${count.toLocaleString("en")} ${answer}`);
  const list = element("ul", { class: "plain" });
  const more = element("button", { type: "button" }, "Show more");
  const show = () => {
    const first = list.children.length;
    list.append(...members.slice(first, first + MEMBERS).map((number) => member(number, current)));
    more.hidden = list.children.length === members.length;
    if (first) list.children[first].firstChild.focus();
  };
  more.addEventListener("click", show);
  show();
  const cluster = rows[current].cluster;
  return section(
    `${counted(members.length, "file")} in one finding`,
    element("p", {}, cluster === undefined ? "They have the same bytes." : `Finding ${cluster} of the scan: copies have the same bytes, near-duplicates look alike.`),
    mixed ? element("p", { class: "alert" }, `The answers differ: ${tally.join(", ")}. An image that looks the same can have lost what a model looks for when it was re-encoded or resized.`) : null,
    list,
    more,
  );
}
