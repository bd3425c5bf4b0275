"use strict";
// The page is whole without this but for the map: a canvas of points to move, zoom, point at, search and colour.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = 12;
  // Viridis (van der Walt & Smith), at equal steps.
  const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const explore = document.querySelector(".explore");
  const canvas = explore.querySelector("canvas");
  const told = explore.querySelector(".told");
  const legend = explore.querySelector(".legend");
  const tools = explore.querySelector(".tools");
  const { colour: select, next, reset } = tools.elements;
  const [words, said] = ["input", "output"].map((tag) => tools.querySelector(tag));
  const hint = told.firstElementChild;
  const pen = canvas.getContext("2d");
  const n = data.x.length;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const format = (number) => number.toLocaleString("en");

  // What points are coloured by: a code for each, -1 for none, and how a code looks.

  const ofClusters = {
    name: "cluster",
    codes: data.cluster,
    values: data.names.map((name, i) => `${i} ${name}`),
    none: "in no cluster",
    cycle: true,
  };
  const ofValues = ({ name, values, codes, more }) => ({
    name,
    codes: more ? codes.map((code) => Math.min(code, COLOURS)) : codes,
    values: more ? [...values.slice(0, COLOURS), `other values (${format(more)})`] : values,
    other: more ? COLOURS : -1,
    none: "no value",
  });
  const ofNumbers = ({ name, numbers }) => {
    const known = numbers.filter((x) => x !== null).sort((a, b) => a - b);
    // The outermost hundredths share their colour, that a few outliers do not take all of it.
    const [low, high] = [0.01, 0.99].map((part) => known[Math.round(part * (known.length - 1))]);
    const step = (x) => (high > low ? Math.min(Math.max((x - low) / (high - low), 0), 1) : 0.5);
    const codes = numbers.map((x) => (x === null ? -1 : Math.round(63 * step(x))));
    return { name, codes, values: [], numeric: [low, high], none: "no value" };
  };
  const colourings = [
    ofClusters,
    ofNumbers({ name: "membership", numbers: data.membership.map((x) => x / 100) }),
    ...data.columns.map((column) => (column.numbers ? ofNumbers(column) : ofValues(column))),
  ];
  colourings.forEach(({ name }, i) => select.append(new Option(i > 1 ? `column ${name}` : name, String(i))));

  const valueOf = (column, i) => {
    if (column.numbers) return column.numbers[i] === null ? "" : String(column.numbers[i]);
    const code = column.codes[i];
    return code < 0 ? "" : (column.values[code] ?? "another value");
  };

  let colouring = ofClusters;
  let hidden = new Set();
  let matches = null; // for each point whether it is one, or null without a search
  let hovered = -1;
  let pinned = -1;

  // Where points are drawn: scale, and where the upper left corner of the square of positions lies.

  const view = { scale: 1, x: 0, y: 0 };
  let [width, height, ratio] = [0, 0, 1];
  const wholeScale = () => Math.min((width - 40) / span.w, (height - 40) / span.h);
  const bounds = (values) => values.reduce(([low, high], x) => [Math.min(low, x), Math.max(high, x)], [Infinity, -Infinity]);
  const [xs, ys] = [bounds(data.x), bounds(data.y)];
  const span = { w: Math.max(xs[1] - xs[0], 1), h: Math.max(ys[1] - ys[0], 1) };
  const across = (i) => view.x + data.x[i] * view.scale;
  const down = (i) => view.y + data.y[i] * view.scale;

  const whole = () => {
    view.scale = wholeScale();
    view.x = width / 2 - (view.scale * (xs[0] + xs[1])) / 2;
    view.y = height / 2 - (view.scale * (ys[0] + ys[1])) / 2;
    draw();
  };
  const zoom = (factor, x, y) => {
    const scale = Math.min(Math.max(view.scale * factor, wholeScale() * 0.5), wholeScale() * 80);
    view.x = x - ((x - view.x) * scale) / view.scale;
    view.y = y - ((y - view.y) * scale) / view.scale;
    view.scale = scale;
    draw();
  };
  const bringIn = (i) => {
    const [x, y] = [across(i), down(i)];
    if (x < 20 || x > width - 20) view.x += width / 2 - x;
    if (y < 20 || y > height - 20) view.y += height / 2 - y;
  };

  // Colours. Points are mixed into the picture by hand, which draws ten thousands at once on any machine.

  let theme = {};
  let palette = []; // red, green and blue for each code, that of -1 first
  const rgb = (hex) => {
    const full = hex.length === 4 ? [...hex.slice(1)].map((digit) => digit + digit).join("") : hex.slice(1);
    return [0, 2, 4].map((at) => parseInt(full.slice(at, at + 2), 16));
  };
  const readTheme = () => {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(`--${name}`).trim();
    const own = Array.from({ length: COLOURS }, (_, i) => rgb(read(`c${i}`)));
    theme = { own, none: rgb(read("none")), card: rgb(read("card")), paper: read("card"), ink: read("ink") };
  };
  const ramp = (code) => {
    const at = (code / 63) * (RAMP.length - 1);
    const from = Math.min(Math.floor(at), RAMP.length - 2);
    return RAMP[from].map((part, i) => Math.round(part + (RAMP[from + 1][i] - part) * (at - from)));
  };
  const paint = (code) => {
    if (code < 0 || code === colouring.other) return theme.none;
    return colouring.numeric ? ramp(code) : theme.own[code % COLOURS];
  };
  // Clusters beyond the colours begin again as rings.
  const isRing = (code) => Boolean(colouring.cycle) && Math.floor(Math.max(code, 0) / COLOURS) % 2 === 1;

  const radius = () => {
    const fit = n > 8000 ? 2 : n > 2000 ? 2.6 : n > 500 ? 3.5 : 5;
    return Math.min(fit * Math.max(1, (view.scale / wholeScale()) ** 0.35), 8);
  };
  // How much of each pixel around a point its colour takes, and the rim that sets it off from others.
  const maskOf = (r, ring) => {
    const half = Math.ceil(r + 1.5);
    const side = 2 * half + 1;
    const [own, rim] = [new Float32Array(side * side), new Float32Array(side * side)];
    const clamp = (x) => Math.min(Math.max(x, 0), 1);
    for (let at = 0; at < own.length; at++) {
      const far = Math.hypot((at % side) - half, Math.floor(at / side) - half);
      own[at] = ring ? clamp(0.9 * ratio + 0.5 - Math.abs(far - r + 0.9 * ratio)) : clamp(r + 0.5 - far);
      rim[at] = ring ? 0 : clamp(r + 1.1 - far);
    }
    return { half, side, own, rim };
  };
  let picture = null;
  const dab = (i, mask, alpha) => {
    const [left, top] = [Math.round(across(i) * ratio) - mask.half, Math.round(down(i) * ratio) - mask.half];
    const { width: wide, height: high, data: pixels } = picture;
    const { side, own, rim } = mask;
    if (left + side <= 0 || top + side <= 0 || left >= wide || top >= high) return;
    const [red, green, blue] = palette[colouring.codes[i] + 1];
    const [cardRed, cardGreen, cardBlue] = theme.card;
    const [from, to] = [Math.max(0, -left), Math.min(side, wide - left)];
    for (let row = Math.max(0, -top); row < Math.min(side, high - top); row++) {
      let at = 4 * ((top + row) * wide + left + from);
      for (let k = row * side + from; k < row * side + to; k++, at += 4) {
        const edge = rim[k] * alpha;
        const part = own[k] * alpha;
        if (!edge && !part) continue;
        const kept = (1 - edge) * (1 - part);
        const card = edge * (1 - part);
        pixels[at] = pixels[at] * kept + cardRed * card + red * part;
        pixels[at + 1] = pixels[at + 1] * kept + cardGreen * card + green * part;
        pixels[at + 2] = pixels[at + 2] * kept + cardBlue * card + blue * part;
      }
    }
  };

  const isShown = (i) => !hidden.has(colouring.codes[i]);

  let waiting = false;
  const draw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      render();
    });
  };
  const render = () => {
    if (!canvas.width || !canvas.height) return;
    if (picture?.width !== canvas.width || picture.height !== canvas.height) picture = pen.createImageData(canvas.width, canvas.height);
    const [blank] = new Uint32Array(new Uint8ClampedArray([...theme.card, 255]).buffer);
    new Uint32Array(picture.data.buffer).fill(blank);
    const r = radius();
    const [disc, ring] = [false, true].map((as) => maskOf(r * ratio, as));
    const lay = (wanted, alpha) => {
      for (let i = 0; i < n; i++) {
        if (isShown(i) && (!matches || matches[i] === wanted)) dab(i, isRing(colouring.codes[i]) ? ring : disc, alpha);
      }
    };
    if (matches) lay(false, 0.12);
    lay(true, matches ? 1 : 0.85);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.putImageData(picture, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (colouring === ofClusters) number();
    for (const [i, line] of [[hovered, 1.5], [pinned, 2.5]]) {
      if (i < 0) continue;
      pen.beginPath();
      pen.arc(across(i), down(i), r + 3, 0, 7);
      pen.lineWidth = line;
      pen.strokeStyle = theme.ink;
      pen.stroke();
    }
  };

  // The number of a cluster stands where its documents are: at the median.
  const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
  const centres = data.names.map((_, cluster) => {
    const own = [...data.cluster.keys()].filter((i) => data.cluster[i] === cluster);
    return own.length ? [middle(own.map((i) => data.x[i])), middle(own.map((i) => data.y[i]))] : null;
  });
  const number = () => {
    pen.font = "600 13px sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    centres.forEach((place, cluster) => {
      if (!place || hidden.has(cluster)) return;
      const [x, y] = [view.x + place[0] * view.scale, view.y + place[1] * view.scale];
      pen.lineWidth = 4;
      pen.lineJoin = "round";
      pen.strokeStyle = theme.paper;
      pen.strokeText(String(cluster), x, y);
      pen.fillStyle = theme.ink;
      pen.fillText(String(cluster), x, y);
    });
  };

  // What is told of a document. Texts are only ever set as text.

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const dot = (code) => {
    const picture = document.createElementNS(SVG, "svg");
    const circle = document.createElementNS(SVG, "circle");
    const none = code < 0 || code === colouring.other;
    picture.setAttribute("class", `dot ${none ? "none" : `c${code % COLOURS}`}${isRing(code) ? " ring" : ""}`);
    picture.setAttribute("viewBox", "0 0 12 12");
    picture.setAttribute("aria-hidden", "true");
    for (const [name, value] of Object.entries({ class: "own", cx: 6, cy: 6, r: 4.5 })) circle.setAttribute(name, value);
    picture.append(circle);
    return picture;
  };

  const tell = () => {
    const i = pinned >= 0 ? pinned : hovered;
    if (i < 0) {
      told.replaceChildren(hint);
      return;
    }
    const title = element("h3", "", data.ids[i]);
    title.dir = "auto";
    const parts = pinned >= 0 ? [element("span", "kept", "kept · Esc")] : [];
    parts.push(title);
    const which = element("p", "which");
    const cluster = data.cluster[i];
    if (cluster < 0) which.append(ofClusters.none);
    else {
      const link = element("a", "", ofClusters.values[cluster]);
      link.href = `#cluster-${cluster}`;
      which.append(link, element("span", "latent", `membership ${(data.membership[i] / 100).toFixed(2)}`));
    }
    parts.push(which);
    if (data.texts) {
      const text = element("blockquote", "", data.texts[i]);
      text.dir = "auto";
      parts.push(text);
    }
    const list = element("dl");
    for (const column of data.columns) list.append(element("dt", "", column.name), element("dd", "", valueOf(column, i) || "–"));
    if (data.columns.length) parts.push(list);
    told.replaceChildren(...parts);
    told.scrollTop = 0;
  };
  const hover = (i) => {
    if (i === hovered) return;
    hovered = i;
    if (pinned < 0) tell();
    draw();
  };
  const pin = (i) => {
    pinned = i;
    tell();
    draw();
  };

  const nearest = (x, y, reach) => {
    let [best, least] = [-1, reach * reach];
    for (let i = 0; i < n; i++) {
      const far = (across(i) - x) ** 2 + (down(i) - y) ** 2;
      if (far < least && isShown(i) && (!matches || matches[i])) [best, least] = [i, far];
    }
    return best;
  };
  // The nearest document in a direction, those off to the side counting as farther.
  const beside = (i, dx, dy) => {
    let [best, least] = [-1, Infinity];
    for (let j = 0; j < n; j++) {
      const [x, y] = [data.x[j] - data.x[i], data.y[j] - data.y[i]];
      const along = x * dx + y * dy;
      const aside = Math.abs(x * dy) + Math.abs(y * dx);
      if (along <= 0 || aside > 2 * along || !isShown(j) || (matches && !matches[j])) continue;
      if (along + 2 * aside < least) [best, least] = [j, along + 2 * aside];
    }
    return best;
  };

  // The legend.

  const counts = () => {
    const found = new Map();
    for (const code of colouring.codes) found.set(code, (found.get(code) ?? 0) + 1);
    return found;
  };
  const key = (code, name, size) => {
    const button = element("button");
    button.type = "button";
    button.append(dot(code), element("span", "", name), element("span", "n", format(size)));
    button.setAttribute("aria-pressed", String(!hidden.has(code)));
    button.title = "Press to hide or show; with shift, show only this";
    button.addEventListener("click", (event) => {
      const all = [...counts().keys()];
      if (event.shiftKey) hidden = new Set(all.filter((other) => other !== code));
      else if (!hidden.delete(code)) hidden.add(code);
      if (pinned >= 0 && !isShown(pinned)) pin(-1);
      hovered = -1;
      explain();
      draw();
    });
    const item = element("li");
    item.append(button);
    return item;
  };
  const explain = () => {
    const sizes = counts();
    const items = [];
    const focused = [...legend.querySelectorAll("button")].indexOf(document.activeElement);
    if (colouring.numeric) {
      const scale = element("li", "scale-of");
      const bar = Object.assign(element("canvas", "ramp"), { width: 64, height: 1 });
      const brush = bar.getContext("2d");
      for (let code = 0; code < 64; code++) {
        brush.fillStyle = `rgb(${ramp(code).join(" ")})`;
        brush.fillRect(code, 0, 1, 1);
      }
      bar.setAttribute("aria-hidden", "true");
      scale.append(format(colouring.numeric[0]), bar, format(colouring.numeric[1]));
      items.push(scale);
    } else {
      colouring.values.forEach((name, code) => {
        if (sizes.get(code)) items.push(key(code, name, sizes.get(code)));
      });
    }
    if (sizes.get(-1)) items.push(key(-1, colouring.none, sizes.get(-1)));
    if (hidden.size) {
      const all = element("button", "", "show all");
      all.type = "button";
      all.addEventListener("click", () => {
        hidden.clear();
        explain();
        draw();
      });
      const item = element("li");
      item.append(all);
      items.push(item);
    }
    legend.replaceChildren(...items);
    if (focused >= 0) legend.querySelectorAll("button")[focused]?.focus();
  };
  const recolour = () => {
    colouring = colourings[Number(select.value)] ?? ofClusters;
    hidden = new Set();
    palette = Array.from({ length: Math.max(64, colouring.values.length) + 1 }, (_, i) => paint(i - 1));
    explain();
    draw();
  };

  // Search.

  const searched = Array.from({ length: n }, (_, i) => `${data.ids[i]}\n${data.texts ? data.texts[i] : ""}`.toLowerCase());
  const search = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    matches = wanted.length ? searched.map((text) => wanted.every((word) => text.includes(word))) : null;
    const found = matches ? matches.filter(Boolean).length : 0;
    said.textContent = matches ? `${format(found)} of ${format(n)}` : "";
    next.disabled = !found;
    hovered = -1;
    draw();
  };
  const nextMatch = () => {
    if (!matches) return;
    for (let step = 1; step <= n; step++) {
      const i = (pinned + step) % n;
      if (!matches[i] || !isShown(i)) continue;
      bringIn(i);
      pin(i);
      return;
    }
  };

  // Pointers: one moves the map or points, two zoom.

  const pointers = new Map();
  let moved = 0;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    if (pointers.size === 1) moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    const before = pointers.get(event.pointerId);
    if (!before) {
      hover(nearest(x, y, 12));
      return;
    }
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    moved += Math.hypot(x - before[0], y - before[1]);
    if (other) {
      const [was, is] = [before, [x, y]].map((p) => Math.hypot(p[0] - other[0], p[1] - other[1]));
      zoom(is / Math.max(was, 1), (x + other[0]) / 2, (y + other[1]) / 2);
    } else if (moved > 4) {
      view.x += x - before[0];
      view.y += y - before[1];
      canvas.classList.add("moving");
      draw();
    }
    pointers.set(event.pointerId, [x, y]);
  });
  const lift = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    canvas.classList.remove("moving");
    if (event.type === "pointerup" && moved <= 4 && !pointers.size) pin(nearest(...place(event), 16));
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => hover(-1));
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...place(event));
    },
    { passive: false },
  );

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow && event.shiftKey) {
      view.x -= 60 * arrow[0];
      view.y -= 60 * arrow[1];
      draw();
    } else if (arrow) {
      const from = pinned >= 0 ? pinned : hovered;
      const to = from < 0 ? nearest(width / 2, height / 2, Infinity) : beside(from, ...arrow);
      if (to < 0) return event.preventDefault();
      bringIn(to);
      pinned = -1;
      hovered = to;
      tell();
      draw();
    } else if (event.key === "+" || event.key === "=") zoom(1.3, width / 2, height / 2);
    else if (event.key === "-") zoom(1 / 1.3, width / 2, height / 2);
    else if (event.key === "0") whole();
    else if (event.key === "Enter" && hovered >= 0) pin(hovered);
    else if (event.key === "Escape") pin(-1);
    else return undefined;
    return event.preventDefault();
  });

  // A link to a cluster opens it.
  const follow = () => {
    const details = document.getElementById(location.hash.slice(1))?.querySelector("details");
    if (details?.parentElement.matches(".finding")) details.open = true;
  };
  addEventListener("hashchange", follow);
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea")) return;
    event.preventDefault();
    words.focus();
    words.select();
  });
  words.addEventListener("input", search);
  words.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !words.value) return;
    words.value = "";
    search();
  });
  tools.addEventListener("submit", (event) => {
    event.preventDefault();
    nextMatch();
  });
  next.addEventListener("click", nextMatch);
  reset.addEventListener("click", whole);
  select.addEventListener("change", recolour);
  dark.addEventListener("change", () => {
    readTheme();
    recolour();
  });

  const resize = () => {
    const first = !width;
    const [before, above] = [width, height];
    [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
    Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    if (first) return whole();
    view.x += (width - before) / 2;
    view.y += (height - above) / 2;
    return render();
  };

  readTheme();
  explore.hidden = false;
  resize();
  new ResizeObserver(() => (canvas.clientWidth !== width || canvas.clientHeight !== height) && resize()).observe(canvas);
  recolour(); // a browser may keep what was chosen and typed when the page is loaded again
  search();
  follow();
})();
