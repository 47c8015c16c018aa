// The picture of a part: heat map by slider, outlines on and off. Both are remembered.
const remembered = { heat: "makellos-heat", outlines: "makellos-outlines" };

function read(key, otherwise) {
  try { return localStorage.getItem(key) ?? otherwise; } catch { return otherwise; }
}
function keep(key, value) {
  try { localStorage.setItem(key, value); } catch { /* private window: nothing is kept */ }
}

export function prepare(root = document) {
  const heat = read(remembered.heat, "60");
  const outlines = read(remembered.outlines, "1") === "1";
  for (const slider of root.querySelectorAll("[data-heat-slider]")) slider.value = heat;
  for (const box of root.querySelectorAll("[data-outline-switch]")) box.checked = outlines;
  for (const stage of root.querySelectorAll("[data-stage]")) {
    stage.style.setProperty("--heat", Number(heat) / 100);
    const base = stage.querySelector("[data-base]");
    if (base) stage.style.setProperty("--ratio", Number(base.getAttribute("width")) / Number(base.getAttribute("height")));
    stage.classList.toggle("no-outlines", !outlines);
  }
}

document.addEventListener("input", (event) => {
  if (event.target.matches("[data-heat-slider]")) {
    keep(remembered.heat, event.target.value);
    prepare();
  } else if (event.target.matches("[data-outline-switch]")) {
    keep(remembered.outlines, event.target.checked ? "1" : "0");
    prepare();
  }
});

// H takes the heat map off and back, O the outlines.
let before = "60";
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input:not([type=range]):not([type=checkbox]), textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  if (key === "h") {
    const now = read(remembered.heat, "60");
    if (now !== "0") before = now;
    keep(remembered.heat, now === "0" ? before : "0");
    prepare();
  } else if (key === "o") {
    keep(remembered.outlines, read(remembered.outlines, "1") === "1" ? "0" : "1");
    prepare();
  }
});
document.addEventListener("htmx:afterSwap", (event) => prepare(event.detail.target));
prepare();
