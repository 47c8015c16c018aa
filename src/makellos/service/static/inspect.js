// Pictures are sent one by one, so that each verdict appears as soon as it is there.
const token = document.querySelector('meta[name="csrf"]').content;

const form = document.querySelector("[data-inspect]");
if (form) {
  const field = form.querySelector('input[type="file"]');
  const results = document.querySelector("[data-results]");
  const refusals = document.querySelector("[data-refusals]");
  const said = document.querySelector("[data-said]");
  const bar = document.querySelector("[data-progress]");
  const waiting = [];
  let done = 0, total = 0, busy = false;

  const fill = (text) => text.replace("{done}", done).replace("{total}", total);
  const pause = (seconds) => new Promise((go) => setTimeout(go, 1000 * seconds));

  function refuse(name, message) {
    const line = document.createElement("p");
    line.className = "message bad";
    line.setAttribute("role", "alert");
    line.textContent = `${form.dataset.refused}: ${name}. ${message}`;
    refusals.append(line);
  }

  // The API says it in English.
  async function told(message) {
    const body = new URLSearchParams({ text: message.slice(0, 2000) });
    const answer = await fetch("/said", { method: "POST", body, headers: { "X-CSRF-Token": token } });
    return answer.ok ? answer.text() : message;
  }

  async function send(file) {
    const body = new FormData();
    body.append("files", file, file.name);
    body.append("recipe", form.elements.recipe.value);
    if (form.elements.lot.value) body.append("lot", form.elements.lot.value);
    if (form.elements.serial.value && total === 1) body.append("serial", form.elements.serial.value);
    for (;;) {
      const answer = await fetch("/api/inspections", { method: "POST", body, headers: { "X-CSRF-Token": token, Accept: "application/json, text/html;q=0.1" } });
      if (answer.status === 429) { await pause(Number(answer.headers.get("Retry-After")) || 1); continue; }
      const found = await answer.json();
      if (!answer.ok) { refuse(file.name, await told(found.error?.message ?? answer.statusText)); return; }
      const shown = await fetch(`/inspected?ids=${found.inspections.map((row) => row.id).join(",")}`);
      results.insertAdjacentHTML("afterbegin", await shown.text());
      return;
    }
  }

  async function work() {
    if (busy) return;
    busy = true;
    bar.hidden = false;
    while (waiting.length) {
      const file = waiting.shift();
      said.textContent = fill(form.dataset.busy);
      try { await send(file); } catch { refuse(file.name, form.dataset.away); }
      done += 1;
      bar.value = done / total;
    }
    said.textContent = fill(form.dataset.done);
    bar.hidden = true;
    busy = false;
    done = total = 0;
    form.elements.serial.value = "";
  }

  function take() {
    waiting.push(...field.files);
    total += field.files.length;
    field.value = "";
    work();
  }
  field.addEventListener("change", take);
  if (field.files.length) take(); // chosen before this module was there
  form.addEventListener("submit", (event) => event.preventDefault());
}
