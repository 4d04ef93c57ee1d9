// Refreshes the page and shows the values under the pointer. Everything works without it.
"use strict";
const EVERY = 15000;
let etag = document.querySelector("main").dataset.etag;
const ready = new Set([chart]); // ticker.js adds its own

async function refresh() {
  const live = document.getElementById("live");
  try {
    const answer = await fetch(location.href, { cache: "no-store", headers: { "If-None-Match": etag } });
    live.textContent = "";
    if (answer.status !== 200) return;
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = next.querySelector("main"), old = document.querySelector("main");
    if (!main || main.dataset.etag === etag || old.contains(document.activeElement) && document.activeElement !== old) return;
    etag = main.dataset.etag;
    document.title = next.title;
    old.replaceWith(main);
    for (const selector of ["footer", "nav"]) document.querySelector(selector).replaceWith(next.querySelector(selector));
    ready.forEach((make) => make());
  } catch (error) {
    live.textContent = "The server does not answer; what is shown is of " + document.lastModified + ".";
  }
}

function chart() {
  for (const figure of document.querySelectorAll("figure.chart[data-values]")) {
    const { x, y } = JSON.parse(figure.dataset.values), picture = figure.querySelector(".picture");
    if (!x.length) continue;
    const line = picture.appendChild(Object.assign(document.createElement("div"), { className: "cursor" }));
    const out = picture.appendChild(Object.assign(document.createElement("div"), { className: "readout" }));
    line.hidden = out.hidden = true;
    const show = (event) => {
      const svg = [...picture.querySelectorAll("svg")].find((each) => each.clientWidth), area = svg.getBoundingClientRect();
      const scale = area.width / svg.viewBox.baseVal.width, first = svg.dataset.from * scale, last = svg.dataset.to * scale;
      const share = last > first ? (event.clientX - area.left - first) / (last - first) : 0;
      const at = Math.round(Math.min(1, Math.max(0, share)) * (x.length - 1));
      const left = first + (x.length > 1 ? at / (x.length - 1) : 0) * (last - first);
      out.replaceChildren(Object.assign(document.createElement("b"), { textContent: x[at] }));
      for (const [name, look, values] of y) {
        const row = document.createElement("span"), key = document.createElement("i");
        key.className = "key " + look;
        row.append(key, name + " " + values[at]);
        out.append(row);
      }
      line.hidden = out.hidden = false;
      line.style.left = left + "px";
      out.style.left = Math.max(0, left > area.width / 2 ? left - out.offsetWidth - 10 : left + 10) + "px";
    };
    const hide = () => (line.hidden = out.hidden = true);
    picture.addEventListener("pointermove", show);
    picture.addEventListener("pointerdown", show);
    picture.addEventListener("pointerleave", hide);
  }
}

chart();
setInterval(() => document.hidden || refresh(), EVERY);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
