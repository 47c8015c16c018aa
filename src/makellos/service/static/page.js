// What every page needs: the menu of narrow screens, the token of forms, messages of failed requests.
const top_ = document.querySelector("[data-top]");
const menu = document.querySelector("[data-menu]");
if (menu) {
  menu.addEventListener("click", () => {
    const open = top_.classList.toggle("open");
    menu.setAttribute("aria-expanded", String(open));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && top_.classList.contains("open")) {
      top_.classList.remove("open");
      menu.setAttribute("aria-expanded", "false");
      menu.focus();
    }
  });
}

const token = document.querySelector('meta[name="csrf"]').content;
document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = token;
});

// A question before what cannot be taken back.
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.ask ?? event.target.dataset.ask;
  if (question && !window.confirm(question)) event.preventDefault();
});

// A field that shows its value beside it.
document.addEventListener("input", (event) => {
  const shown = event.target.dataset?.shows && document.getElementById(event.target.dataset.shows);
  if (shown) shown.textContent = event.target.value;
});

// Lists of files: how many are chosen; dropping onto the field.
for (const drop of document.querySelectorAll("[data-drop]")) {
  const field = drop.querySelector('input[type="file"]');
  const said = drop.querySelector("[data-chosen]");
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, () => drop.classList.add("over"));
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  field.addEventListener("change", () => {
    if (said) said.textContent = field.files.length ? `${field.files.length} · ${field.files[0].name}${field.files.length > 1 ? " …" : ""}` : "";
  });
}
