// Good pictures are sent in small batches before they are learned from.
const token = document.querySelector('meta[name="csrf"]').content;

const form = document.querySelector("[data-learn]");
if (form) {
  const field = form.querySelector('input[type="file"]');
  const said = form.querySelector("[data-said]");
  const refusals = form.querySelector("[data-refusals]");
  const go = form.querySelector("[data-go]");
  const TOGETHER = 8;
  let kept = 0, refused = 0;

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

  function refuse(name, reason) {
    refused += 1;
    const line = document.createElement("li");
    line.textContent = reason.includes(name) ? reason : `${name}: ${reason}`;
    refusals.append(line);
  }

  async function take() {
    const files = [...field.files];
    go.disabled = true;
    for (let first = 0; first < files.length; first += TOGETHER) {
      said.textContent = fill(form.dataset.busy, { done: first, total: files.length });
      const body = new FormData();
      const batch = files.slice(first, first + TOGETHER);
      for (const file of batch) body.append("files", file, file.name);
      body.append("batch", form.elements.batch.value);
      try {
        const answer = await fetch("/start/pictures", { method: "POST", body, headers: { "X-CSRF-Token": token } });
        if (!answer.ok) throw new Error(answer.statusText);
        const told = await answer.json();
        form.elements.batch.value = told.batch;
        kept += told.kept;
        for (const each of told.refused) refuse(each.name, each.reason);
      } catch (error) {
        for (const file of batch) refuse(file.name, String(error.message));
      }
    }
    field.value = "";
    said.textContent = fill(form.dataset.sent, { kept, refused });
    go.disabled = kept === 0;
    go.classList.toggle("main", kept > 0);
  }
  field.addEventListener("change", take);
  if (field.files.length) take(); // chosen before this module was there
}
