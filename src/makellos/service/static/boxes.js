// Boxes drawn on the picture of a part, by mouse, finger or keyboard; G and D give the word.
const form = document.querySelector("[data-decide]");
const stage = document.querySelector("[data-stage]");
const svg = stage?.querySelector("svg.outlines");

if (form) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=range]):not([type=checkbox]), textarea, select")) return;
    const key = event.key.toLowerCase();
    const button = form.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (button) { event.preventDefault(); button.click(); }
  });
}

if (form && svg) {
  const layer = svg.querySelector("[data-drawn]");
  const hidden = form.querySelector("[data-boxes]");
  const list = form.querySelector("[data-box-list]");
  const add = form.querySelector("[data-add-box]");
  const help = form.querySelector("[data-box-help]");
  const { width, height } = svg.viewBox.baseVal;
  const boxes = [];
  let active = -1, start = null;

  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const make = (name) => document.createElementNS("http://www.w3.org/2000/svg", name);

  function place(event) {
    const edge = svg.getBoundingClientRect();
    return {
      x: clamp(((event.clientX - edge.left) / edge.width) * width, 0, width),
      y: clamp(((event.clientY - edge.top) / edge.height) * height, 0, height),
    };
  }

  function draw() {
    layer.replaceChildren();
    list.replaceChildren();
    boxes.forEach((box, number) => {
      for (const name of ["drawn-under", "drawn"]) {
        const rect = make("rect");
        for (const side of ["x", "y", "width", "height"]) rect.setAttribute(side, box[side]);
        rect.setAttribute("class", number === active ? `${name} active` : name);
        layer.append(rect);
      }
      const line = document.createElement("li");
      const text = document.createElement("span");
      text.textContent = `${list.dataset.name} ${number + 1}: ${Math.round(box.width)} × ${Math.round(box.height)}`;
      const remove = document.createElement("button");
      remove.type = "button";
      remove.className = "button small";
      remove.textContent = list.dataset.remove;
      remove.setAttribute("aria-label", `${list.dataset.remove}: ${list.dataset.name} ${number + 1}`);
      remove.addEventListener("click", () => { boxes.splice(number, 1); active = boxes.length - 1; draw(); });
      line.append(text, remove);
      list.append(line);
    });
    hidden.value = boxes.length ? JSON.stringify(boxes.map((box) => [box.x, box.y, box.width, box.height].map((each) => Math.round(each * 10) / 10))) : "";
  }

  function begin() {
    stage.classList.add("drawing");
    add.setAttribute("aria-pressed", "true");
    help.hidden = false;
  }

  function addBox() {
    begin();
    boxes.push({ x: width * 0.4, y: height * 0.4, width: width * 0.2, height: height * 0.2 });
    active = boxes.length - 1;
    draw();
    svg.focus();
  }

  svg.setAttribute("tabindex", "0");
  if (stage.classList.contains("drawing")) begin();
  add.addEventListener("click", (event) => {
    if (event.detail === 0) addBox(); // by keyboard
    else if (stage.classList.contains("drawing")) { stage.classList.remove("drawing"); add.setAttribute("aria-pressed", "false"); help.hidden = true; }
    else begin();
  });

  svg.addEventListener("pointerdown", (event) => {
    if (!stage.classList.contains("drawing")) return;
    event.preventDefault();
    svg.setPointerCapture(event.pointerId);
    start = place(event);
    boxes.push({ ...start, width: 0, height: 0 });
    active = boxes.length - 1;
  });
  svg.addEventListener("pointermove", (event) => {
    if (!start) return;
    const now = place(event);
    boxes[active] = { x: Math.min(start.x, now.x), y: Math.min(start.y, now.y), width: Math.abs(now.x - start.x), height: Math.abs(now.y - start.y) };
    draw();
  });
  function finish() {
    if (!start) return;
    start = null;
    const box = boxes[active];
    if (box.width < width / 200 || box.height < height / 200) { boxes.splice(active, 1); active = boxes.length - 1; }
    draw();
  }
  svg.addEventListener("pointerup", finish);
  svg.addEventListener("pointercancel", finish);

  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input:not([type=range]):not([type=checkbox]), textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.toLowerCase() === "b") { event.preventDefault(); addBox(); return; }
    if (document.activeElement !== svg || active < 0) return;
    const box = boxes[active];
    const step = Math.max(width, height) / 50;
    const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0;
    const down = { ArrowUp: -1, ArrowDown: 1 }[event.key] ?? 0;
    if (event.key === "Delete" || event.key === "Backspace") { boxes.splice(active, 1); active = boxes.length - 1; }
    else if (event.key === "Tab" && boxes.length > 1 && !event.shiftKey && active < boxes.length - 1) active += 1;
    else if (!across && !down) return;
    else if (event.shiftKey) {
      box.width = clamp(box.width + across * step, step / 2, width - box.x);
      box.height = clamp(box.height + down * step, step / 2, height - box.y);
    } else {
      box.x = clamp(box.x + across * step, 0, width - box.width);
      box.y = clamp(box.y + down * step, 0, height - box.height);
    }
    event.preventDefault();
    draw();
  });
}
