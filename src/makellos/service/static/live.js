// The live page follows the station's events; it fetches itself anew, at most four times a second.
import { prepare } from "/static/stage.js";

const live = document.getElementById("live");
const spoken = document.querySelector("[data-spoken]");
const lost = document.querySelector("[data-connection]");
const PAUSE = 250; // ms
let chosen = new URLSearchParams(location.search).get("part");
let busy = false, again = false, timer = 0, last = 0;

function address() {
  return `/live-part${chosen ? `?part=${encodeURIComponent(chosen)}` : ""}`;
}

async function show() {
  if (busy) { again = true; return; }
  busy = true;
  last = performance.now();
  try {
    const answer = await fetch(address(), { credentials: "same-origin" });
    if (answer.redirected || answer.status === 401) { location.reload(); return; }
    if (!answer.ok) return;
    const next = document.createElement("template");
    next.innerHTML = await answer.text();
    // Pictures are decoded before they are shown: nothing flashes.
    const pictures = [...next.content.querySelectorAll("img[data-base], img[data-heat]")];
    await Promise.all(pictures.map((each) => {
      const ready = new Image();
      ready.src = each.src;
      return ready.decode().catch(() => {});
    }));
    const focus = document.activeElement?.closest?.("#live [data-heat-slider], #live [data-outline-switch]");
    const selector = focus && (focus.matches("[data-heat-slider]") ? "[data-heat-slider]" : "[data-outline-switch]");
    prepare(next.content);
    live.replaceChildren(next.content);
    if (selector) live.querySelector(selector)?.focus();
    const word = live.querySelector(".band strong");
    if (word) spoken.textContent = `${live.querySelector(".band .which b").textContent}: ${word.textContent}`;
  } catch { /* the event source says when the station is away */ } finally {
    busy = false;
    if (again) { again = false; soon(); }
  }
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(show, Math.max(0, last + PAUSE - performance.now()));
}

// Choosing a part of the strip stays on it; Escape or End goes back to the newest.
function choose(number) {
  chosen = number;
  history.replaceState(null, "", number ? `/?part=${number}` : "/");
  return show();
}
live.addEventListener("click", (event) => {
  const link = event.target.closest(".strip a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  choose(new URL(link.href).searchParams.get("part"));
});
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input:not([type=checkbox]), textarea, select")) return;
  const links = [...live.querySelectorAll(".strip a")];
  const now = links.findIndex((each) => each.hasAttribute("aria-current"));
  if (event.key === "ArrowRight" && now < links.length - 1) choose(new URL(links[now + 1].href).searchParams.get("part"));
  else if (event.key === "ArrowLeft" && now > 0) choose(new URL(links[now - 1].href).searchParams.get("part"));
  else if ((event.key === "Escape" || event.key === "End") && chosen) choose(null);
});

let source;
function follow() {
  source = new EventSource("/api/events");
  source.addEventListener("inspection", soon);
  source.addEventListener("recipe", soon);
  source.addEventListener("open", () => { if (!lost.hidden) { lost.hidden = true; soon(); } });
  source.addEventListener("error", () => {
    lost.textContent = live.dataset.lost;
    lost.hidden = false;
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 3000);
  });
}
follow();
window.addEventListener("pagehide", () => source.close());
