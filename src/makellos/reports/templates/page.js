(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const order = (a, b) => {
    const x = parseFloat(a), y = parseFloat(b);
    if (Number.isNaN(x) || Number.isNaN(y)) {
      return Number.isNaN(x) && Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : Number.isNaN(x) - Number.isNaN(y);
    }
    return x - y;
  };

  const form = document.querySelector("form.filter");
  const update = () => {
    const want = { name: form.elements.name.value.toLowerCase(), label: form.elements.label.value, verdict: form.elements.verdict.value };
    const key = form.elements.order.value.replace("-", ""), sign = form.elements.order.value.startsWith("-") ? -1 : 1;
    let shown = 0;
    for (const list of all("ul.cards")) {
      const cards = [...list.children].sort((a, b) => key === "name" ? a.dataset.name.localeCompare(b.dataset.name, "en", { numeric: true }) : sign * (a.dataset[key] - b.dataset[key]));
      for (const card of cards) {
        const { name, label, verdict } = card.dataset;
        card.hidden = !name.includes(want.name) || (want.label && label !== want.label) || (want.verdict && verdict !== want.verdict);
        shown += !card.hidden;
        list.append(card);
      }
      list.closest("section").hidden = cards.every((card) => card.hidden);
    }
    form.querySelector("output").textContent = `${shown} shown`;
  };
  if (form) {
    form.hidden = false;
    form.addEventListener("input", update);
  }

  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    all("thead th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.ariaSort !== "ascending";
        all("thead th", table).forEach((other) => { other.ariaSort = null; });
        head.ariaSort = up ? "ascending" : "descending";
        const text = (row) => row.cells[column].textContent.replace(/\u202f/g, "");
        const rows = [...body.rows].sort((a, b) => (up ? 1 : -1) * order(text(a), text(b)));
        body.append(...rows);
      });
    });
  }

  addEventListener("beforeprint", () => all("img").forEach((image) => { image.loading = "eager"; }));

  const open = () => document.querySelector(".card:target");
  const step = (direction) => {
    const shown = all("ul.cards > li").filter((card) => card.offsetParent);
    const next = shown[shown.findIndex((card) => card.contains(open())) + direction];
    if (next) location.replace(`#${next.querySelector(".card").id}`);
  };
  let opener = null;
  addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link) return;
    if (link.matches(".pictures")) opener = link;
    if (link.matches(".previous, .next")) {
      event.preventDefault();
      step(link.matches(".next") ? 1 : -1);
    }
  });
  addEventListener("hashchange", () => {
    const card = open();
    if (card) card.querySelector(".close").focus();
    else if (opener) opener.focus({ preventScroll: true });
  });
  addEventListener("keydown", (event) => {
    if (!open()) return;
    if (event.key === "Escape") open().querySelector(".close").click();
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
})();
