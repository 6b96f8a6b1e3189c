// Which view is open, the keys, and light or dark.

let scrolled = 0;

function route() {
  const wanted = /^#image-(\d+)$/.exec(location.hash);
  const number = wanted ? Number(wanted[1]) - 1 : -1;
  const [overview, image] = [byId("overview"), byId("image")];
  if (rows[number]) {
    if (!overview.hidden) scrolled = scrollY;
    overview.hidden = true;
    image.hidden = false;
    image.replaceChildren(...imagePage(number));
    scrollTo(0, 0);
    byId("image-title").focus({ preventScroll: true });
    if (placeOf(number) >= 0) shown.current = placeOf(number);
    document.title = `${visible(fileOf(rows[number]))} – genforensic`;
    return;
  }
  if (overview.hidden) {
    image.hidden = true;
    image.replaceChildren();
    overview.hidden = false;
    document.title = `genforensic: ${counted(rows.length, "file")}`;
    scrollTo(0, scrolled);
    focusCard(shown.current);
  }
}

function backToGallery() {
  location.hash = "#gallery";
  route(); // the hashchange event comes later and finds nothing left to do
}

function moveInGallery(key) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() };
  const ends = { Home: shown.page * PAGE, End: (shown.page + 1) * PAGE - 1 };
  if (!(key in steps) && !(key in ends)) return false;
  focusCard(key in ends ? ends[key] : shown.current + steps[key]);
  return true;
}

function moveInImage(key) {
  const to = shown.numbers[shown.current + { ArrowLeft: -1, ArrowRight: 1 }[key]];
  if (to === undefined) return false;
  location.replace(`#image-${to + 1}`);
  return true;
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const open = !byId("image").hidden;
  const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
  let done = false;
  if (event.key === "Escape") {
    if (open) backToGallery();
    else if (event.target === byId("query")) byId("filters").reset();
    done = open;
  } else if (typing) {
    if (event.target === byId("query") && ["ArrowDown", "Enter"].includes(event.key) && shown.numbers.length) {
      focusCard(shown.current);
      done = true;
    }
  } else if (event.key === "/") {
    if (open) backToGallery();
    byId("query").focus(); // at once, so that it gets the next key
    done = true;
  } else if (open) {
    done = moveInImage(event.key);
  } else if (event.target.matches(".card") || (event.target === byId("gallery") && event.key.startsWith("Arrow"))) {
    done = event.target.matches(".card") ? moveInGallery(event.key) : (focusCard(shown.current), true);
  }
  if (done) event.preventDefault();
}

function startTheme() {
  const root = document.documentElement;
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => (byId("theme").textContent = dark() ? "Light" : "Dark");
  const kept = (change) => {
    try {
      return change(localStorage);
    } catch {
      return null; // a page from a file may have no storage
    }
  };
  const before = kept((storage) => storage.getItem("genforensic-theme"));
  if (["light", "dark"].includes(before)) root.dataset.theme = before;
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    kept((storage) => storage.setItem("genforensic-theme", root.dataset.theme));
    label();
  });
  label();
}

startTheme();
startGallery();
addEventListener("hashchange", route);
addEventListener("keydown", press);
addEventListener("beforeprint", drawForPaper);
addEventListener("afterprint", () => drawGallery());
route();
