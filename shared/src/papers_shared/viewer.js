/* The viewer: an image under layers. `element`, `props`, `trigger` and `watch` come from gradio's HTML component.

   A layer is a grey image whose values say what a pixel is, and a colour for each value; so what lies under the
   pointer is read from it, and its opacity is a matter of the browser alone. */
let opacity = 0.6;
let inside = true;
let turn = 0;
let held = false; // a button of the mouse is down on the image: it is drawn anew when it is up
let late = false;
let subject = null;
let sent = null; // prompts of the user, until the server has answered about them

function make(parent, tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
}

function draw(parent, tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.appendChild(made);
  return made;
}

function colour([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

async function readValues(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const values = new Uint8Array(canvas.width * canvas.height);
  for (let i = 0; i < values.length; i++) values[i] = pixels.data[4 * i];
  return { values, width: canvas.width, height: canvas.height };
}

function paint(canvas, grid, colours) {
  canvas.width = grid.width;
  canvas.height = grid.height;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(grid.width, grid.height);
  grid.values.forEach((value, i) => pixels.data.set(colours[Math.min(value, colours.length - 1)], 4 * i));
  context.putImageData(pixels, 0, 0);
}

function promptsOf({ points = [], labels = [], box = null }) {
  return { points, labels, box };
}

async function render() {
  if (held) {
    late = true;
    return;
  }
  late = false;
  const mine = ++turn; // an answer that comes while layers are read takes over
  const view = props.value;
  const grids = await Promise.all(
    (view ? view.layers : []).map((layer) => (layer.file ? readValues(layer.file.url).catch(() => null) : null)),
  );
  if (mine !== turn) return;
  if (held) {
    late = true;
    return;
  }
  const root = element.querySelector(".viewer");
  root.replaceChildren();
  if (!view) {
    make(root, "div", "empty", "Drop an image on the left, paste one, or take an example.");
    return;
  }
  if (view.warning) make(root, "p", "warning", view.warning);
  const bar = make(root, "div", "bar");
  const stage = make(root, "div", "stage");
  stage.style.aspectRatio = `${view.width} / ${view.height}`;
  stage.style.maxWidth = `calc(74vh * ${view.width / view.height})`;
  const shown = make(stage, "img");
  shown.alt = "the image";
  shown.draggable = false;
  shown.src = view.image.url;

  const slider = make(make(bar, "label", "", "Opacity "), "input");
  slider.type = "range";
  slider.min = 0;
  slider.max = 1;
  slider.step = 0.05;
  slider.value = opacity;
  slider.addEventListener("input", () => {
    opacity = Number(slider.value);
    for (const layer of layers) if (layer.canvas) layer.canvas.style.opacity = opacity;
  });

  const layers = view.layers.map((layer, i) => ({ ...layer, grid: grids[i], canvas: grids[i] ? make(stage, "canvas") : null }));
  const overlay = draw(stage, "svg", { viewBox: `0 0 ${view.width} ${view.height}`, preserveAspectRatio: "none" });
  const tip = make(stage, "div", "tip");
  tip.hidden = true;
  const legend = make(root, "ul", layers.some((layer) => layer.names.length) ? "legend" : "legend rows");

  for (const layer of layers) {
    if (layer.canvas) {
      layer.canvas.style.opacity = opacity;
      paint(layer.canvas, layer.grid, layer.colours);
    }
    if (layer.box) {
      const [x0, y0, x1, y1] = layer.box;
      layer.frame = draw(overlay, "rect", {
        x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0), fill: "none",
        stroke: colour(layer.colours[layer.colours.length - 1]), "stroke-width": 3, "vector-effect": "non-scaling-stroke",
      });
    }
    list(layer);
    show(layer);
  }

  function show(layer) {
    if (layer.canvas) layer.canvas.hidden = !layer.shown;
    if (layer.frame) layer.frame.setAttribute("visibility", layer.shown ? "visible" : "hidden");
  }

  function list(layer) {
    if (layer.names.length) {
      layer.rows = layer.names.map(([name, note], value) => {
        const row = make(legend, "li");
        make(row, "span", "chip").style.background = colour(layer.colours[value]);
        make(row, "span", "name", name);
        make(row, "span", "note", note);
        return row;
      });
      return;
    }
    const row = make(make(legend, "li"), "label");
    const box = make(row, "input");
    box.type = "checkbox";
    box.checked = layer.shown;
    box.addEventListener("change", () => {
      layer.shown = box.checked;
      show(layer);
    });
    const chip = make(row, "span", "chip");
    const stops = layer.colours.filter((_, value) => value % 32 === 0).map(colour);
    chip.style.background = layer.scaled
      ? `linear-gradient(90deg, ${stops.join(", ")})`
      : colour(layer.colours[layer.colours.length - 1]);
    make(row, "span", "name", layer.name);
    make(row, "span", "note", layer.note);
  }

  function position(event) {
    const area = stage.getBoundingClientRect();
    const x = ((event.clientX - area.left) / area.width) * view.width;
    const y = ((event.clientY - area.top) / area.height) * view.height;
    const within = (value, limit) => Math.max(0, Math.min(limit - 1, Math.floor(value)));
    return [within(x, view.width), within(y, view.height)];
  }

  stage.addEventListener("pointermove", (event) => {
    const [x, y] = position(event);
    const lines = [];
    for (const layer of layers) {
      if (!layer.grid || !layer.shown) continue;
      const column = Math.floor((x / view.width) * layer.grid.width);
      const row = Math.floor((y / view.height) * layer.grid.height);
      const value = layer.grid.values[row * layer.grid.width + column];
      for (const [index, entry] of (layer.rows || []).entries()) entry.classList.toggle("under", index === value);
      if (layer.names.length) lines.push((layer.names[value] || ["no class"])[0]);
      else if (layer.scaled) lines.push(`${layer.name} ${(value / 255).toFixed(2)}`);
      else if (value) lines.push(layer.name);
    }
    tip.textContent = [...lines, `${x}, ${y}`].join("\n");
    const area = stage.getBoundingClientRect();
    tip.style.left = `${event.clientX - area.left}px`;
    tip.style.top = `${event.clientY - area.top}px`;
    tip.hidden = false;
  });
  stage.addEventListener("pointerleave", () => {
    tip.hidden = true;
    for (const layer of layers) for (const entry of layer.rows || []) entry.classList.remove("under");
  });

  if (view.prompts) takePrompts();

  function takePrompts() {
    stage.classList.add("asks");
    if (view.subject !== subject) sent = null;
    subject = view.subject;
    const answered = promptsOf(view.prompts);
    if (JSON.stringify(sent) === JSON.stringify(answered)) sent = null;
    const asked = structuredClone(sent || answered);
    const marks = draw(overlay, "g", {});
    for (const [name, value] of [["point inside", true], ["point outside", false]]) {
      const choice = make(make(bar, "label", "", ""), "input");
      choice.type = "radio";
      choice.name = "prompt";
      choice.checked = inside === value;
      choice.addEventListener("change", () => (inside = value));
      make(choice.parentElement, "span", "", name);
    }
    make(bar, "span", "note", "or drag a box");
    const clear = make(bar, "button", "", "Clear");
    clear.type = "button";
    clear.addEventListener("click", () => {
      Object.assign(asked, { points: [], labels: [], box: null });
      mark();
      send();
    });

    function send() {
      sent = structuredClone(asked);
      trigger("input", sent);
    }

    function mark(box = asked.box) {
      marks.replaceChildren();
      if (box)
        draw(marks, "rect", {
          class: "asked-box", x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1], fill: "none",
          stroke: "rgb(255 214 10)", "stroke-width": 3, "vector-effect": "non-scaling-stroke",
        });
      asked.points.forEach(([x, y], i) => {
        const size = stage.getBoundingClientRect();
        const ellipse = { rx: (7 * view.width) / size.width, ry: (7 * view.height) / size.height };
        draw(marks, "ellipse", {
          class: "asked-point", cx: x + 0.5, cy: y + 0.5, ...ellipse, stroke: "white", "stroke-width": 2,
          fill: asked.labels[i] ? "rgb(40 200 90)" : "rgb(235 60 50)", "vector-effect": "non-scaling-stroke",
        });
      });
    }

    let from = null;
    const spanned = ([x0, y0], [x1, y1]) => [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
    const dragged = (event) => from && Math.hypot(event.clientX - from.x, event.clientY - from.y) > 5;
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      held = true;
      from = { x: event.clientX, y: event.clientY, at: position(event) };
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      if (dragged(event)) mark(spanned(from.at, position(event)));
    });
    stage.addEventListener("pointercancel", () => {
      from = null;
      mark();
      release();
    });
    function release() {
      held = false;
      if (late) render();
    }
    stage.addEventListener("pointerup", (event) => {
      if (!from) return;
      if (dragged(event)) asked.box = spanned(from.at, position(event));
      else {
        asked.points.push(position(event));
        asked.labels.push(inside ? 1 : 0);
      }
      from = null;
      mark();
      send();
      release();
    });
    mark();
  }
}

watch("value", render);
render();
