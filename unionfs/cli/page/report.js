// The map of the report: a squarified treemap (Bruls, Huizing, van Wijk 2000) over the tree in #data.
// A node is {n: name, b: bytes, l: bytes that never show, f: files, k: colour, c: [children]}.
"use strict";
(() => {
  const trees = JSON.parse(document.getElementById("data").textContent);
  const cells = document.getElementById("cells");
  const crumbs = document.getElementById("crumbs");
  const told = document.getElementById("told");
  const HEADER = 18, GAP = 2, LEAST = 14;
  let way = [trees.layers];
  let shown = [];

  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  function size(bytes) {
    let unit = 0;
    while (bytes >= 999.5 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
    return `${Number(bytes.toPrecision(3))}${units[unit]}`;
  }

  function words(node, path) {
    const share = (100 * node.b / Math.max(trees.layers.b, 1)).toFixed(1);
    const files = node.f === 1 ? "1 file" : `${node.f} files`;
    const lost = node.l ? `; ${size(node.l)} of it never shows` : "";
    return `${path.join(" / ")}: ${size(node.b)}, ${share} % of the image, ${files}${lost}`;
  }

  // Lay nodes out in a box: rows along its shorter side, each as square as it can be.
  function squarify(nodes, box, place) {
    let {x, y, w, h} = box, at = 0;
    let left = nodes.reduce((sum, node) => sum + node.b, 0);
    while (at < nodes.length && left > 0 && w > 0 && h > 0) {
      const side = Math.min(w, h), scale = w * h / left;
      let end = at, row = 0, worst = Infinity;
      while (end < nodes.length) {
        const area = (row + nodes[end].b) * scale;
        const most = nodes[at].b * scale, least = nodes[end].b * scale;
        const ratio = Math.max(side * side * most / (area * area), area * area / (side * side * least));
        if (ratio > worst) break;
        worst = ratio; row += nodes[end].b; end += 1;
      }
      const thick = row * scale / side;
      let along = 0;
      for (; at < end; at += 1) {
        const long = nodes[at].b / row * side;
        place(nodes[at], w >= h ? {x, y: y + along, w: thick, h: long} : {x: x + along, y, w: long, h: thick});
        along += long;
      }
      if (w >= h) { x += thick; w -= thick; } else { y += thick; h -= thick; }
      left -= row;
    }
  }

  function cell(node, box, parent, path, depth) {
    const element = document.createElement("div");
    const inner = {x: box.x + GAP, y: box.y + HEADER, w: box.w - 2 * GAP, h: box.h - HEADER - GAP};
    const opens = Boolean(node.c) && inner.w > 3 * LEAST && inner.h > 2 * LEAST;
    element.className = `cell k${node.k}${node.c ? " into" : ""}${opens ? " in" : ""}${depth ? "" : " big"}`;
    element.setAttribute("role", "treeitem");
    element.setAttribute("aria-level", depth + 1);
    element.setAttribute("aria-label", words(node, path));
    element.tabIndex = -1;
    Object.assign(element.style, {left: `${box.x}px`, top: `${box.y}px`, width: `${box.w - 1}px`, height: `${box.h - 1}px`});
    if (node.l && !opens) {
      const lost = document.createElement("span");
      lost.className = "lostpart";
      lost.style.height = `${100 * Math.min(node.l / Math.max(node.b, 1), 1)}%`;
      element.append(lost);
    }
    if (box.w > 30 && box.h > 15) {
      const label = document.createElement("span");
      label.className = "label";
      label.textContent = node.n;
      element.append(label);
      if (opens || box.h > 32) {
        const count = document.createElement("small");
        count.textContent = size(node.b);
        label.append(count);
      }
    }
    const entry = {node, element, path, parent, children: []};
    shown.push(entry);
    if (parent) parent.children.push(entry);
    cells.append(element);
    if (opens) {
      const big = node.c.filter((one) => one.b > 0);
      squarify(big, inner, (one, at) => {
        if (at.w > 3 && at.h > 3) cell(one, at, entry, [...path, one.n], depth + 1);
      });
    }
  }

  function draw() {
    const here = way[way.length - 1];
    const path = way.map((node) => node.n);
    cells.replaceChildren();
    shown = [];
    const box = {x: 2, y: 2, w: cells.clientWidth - 4, h: cells.clientHeight - 4};
    squarify((here.c || []).filter((one) => one.b > 0), box, (one, at) => {
      if (at.w > 3 && at.h > 3) cell(one, at, null, [...path, one.n], 0);
    });
    if (shown.length) shown[0].element.tabIndex = 0;
    crumbs.replaceChildren(...way.map((node, place) => {
      const last = place === way.length - 1;
      const item = document.createElement(last ? "b" : "button");
      item.textContent = place ? node.n : `${node.n} (${size(node.b)})`;
      if (last) item.setAttribute("aria-current", "location");
      else item.addEventListener("click", () => { way = way.slice(0, place + 1); draw(); });
      return item;
    }));
    told.textContent = words(here, path);
  }

  const entryOf = (target) => shown.find((entry) => entry.element === target.closest(".cell"));

  function into(entry) {
    if (!entry.node.c) return;
    const below = [];
    for (let at = entry; at; at = at.parent) below.unshift(at.node);
    way = [...way, ...below];
    draw();
    if (shown.length) focus(shown[0]);
  }

  function out() {
    if (way.length < 2) return;
    const left = way.pop();
    draw();
    focus(shown.find((entry) => entry.node === left) || shown[0]);
  }

  function focus(entry) {
    for (const other of shown) other.element.tabIndex = -1;
    entry.element.tabIndex = 0;
    entry.element.focus();
  }

  // Up and down the tree with Up and Down, along brothers with Left and Right.
  function neighbour(entry, key) {
    const brothers = entry.parent ? entry.parent.children : shown.filter((one) => !one.parent);
    const place = brothers.indexOf(entry);
    return {
      ArrowRight: brothers[place + 1], ArrowLeft: brothers[place - 1], ArrowDown: entry.children[0],
      ArrowUp: entry.parent, Home: brothers[0], End: brothers[brothers.length - 1],
    }[key];
  }

  cells.addEventListener("click", (event) => { const entry = entryOf(event.target); if (entry) into(entry); });
  for (const kind of ["focusin", "mouseover"]) {
    cells.addEventListener(kind, (event) => {
      const entry = entryOf(event.target);
      if (entry) told.textContent = words(entry.node, entry.path);
    });
  }
  cells.addEventListener("keydown", (event) => {
    const entry = entryOf(event.target);
    if (!entry || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") into(entry);
    else if (event.key === "Escape" || event.key === "Backspace") out();
    else {
      const next = neighbour(entry, event.key);
      if (next) focus(next);
      else if (!event.key.startsWith("Arrow")) return;
    }
    event.preventDefault();
  });
  for (const choice of document.querySelectorAll("#grouping input")) {
    choice.addEventListener("change", () => { way = [trees[choice.value]]; draw(); });
  }

  if (!trees.layers.b) return;
  document.getElementById("map").hidden = false;
  document.getElementById("grouping").hidden = false;
  document.getElementById("table").open = false;
  let width = 0;
  new ResizeObserver(() => {
    if (cells.clientWidth !== width) { width = cells.clientWidth; draw(); }
  }).observe(cells);
})();
