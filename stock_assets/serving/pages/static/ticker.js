// The interactive charts of one ticker, in the place of the static ones: bars as traded above, probabilities below.
"use strict";

async function interactive() {
  const place = document.querySelector(".interactive");
  if (!place || typeof uPlot === "undefined") return;
  const answer = await fetch(place.dataset.chart);
  if (!answer.ok) return; // the static charts stay
  const data = await answer.json();
  if (data.sessions.length < 2) return;
  place.hidden = false;
  document.querySelector(".static").hidden = true;
  draw(place, data);
}

function draw(place, data) {
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue("--" + name).trim();
  const ink = colour("ink"), font = "12px system-ui, sans-serif", x = data.sessions.map((_, i) => i);
  const percent = (v) => (v == null ? "–" : (100 * v).toFixed(1) + " %"), price = (v) => (v == null ? "–" : v.toFixed(2));
  const axis = { stroke: colour("soft"), font, grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") } };
  const days = { ...axis, values: (_, splits) => splits.map((i) => (Number.isInteger(i) && data.sessions[i] ? data.sessions[i] : "")), space: 90 };
  const day = { label: "session", value: (_, i) => data.sessions[i] ?? "–" };
  const at = (plot, i, value) => [plot.valToPos(i, "x", true), plot.valToPos(value, "y", true)];
  const shape = (plot, i, value, look, fill) => {
    const [left, top] = at(plot, i, value), size = 5 * devicePixelRatio, ctx = plot.ctx;
    ctx.beginPath();
    if (look === "dot") ctx.arc(left, top, size * 0.6, 0, 7);
    else if (look === "suspect") ctx.moveTo(left, top - size), ctx.lineTo(left + size, top + size), ctx.lineTo(left - size, top + size);
    else ctx.moveTo(left, top - size), ctx.lineTo(left + size, top), ctx.lineTo(left, top + size), ctx.lineTo(left - size, top);
    ctx.closePath();
    ctx.fillStyle = fill;
    ctx.fill();
    ctx.strokeStyle = colour("card");
    ctx.stroke();
  };
  const visible = (plot, draws) => {
    const [first, last] = [Math.max(0, Math.ceil(plot.scales.x.min)), Math.min(x.length - 1, Math.floor(plot.scales.x.max))];
    plot.ctx.save();
    plot.ctx.beginPath();
    plot.ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
    plot.ctx.clip();
    for (let i = first; i <= last; i++) draws(i, last - first + 1);
    plot.ctx.restore();
  };
  const bars = (plot) => {
    visible(plot, (i, count) => {
      if (data.close[i] == null) return;
      const ctx = plot.ctx, half = Math.max(1, Math.min(7 * devicePixelRatio, (plot.bbox.width / count) * 0.35));
      const [left, high] = at(plot, i, data.high[i]), low = at(plot, i, data.low[i])[1];
      const open = at(plot, i, data.open[i])[1], close = at(plot, i, data.close[i])[1];
      ctx.fillStyle = ctx.strokeStyle = data.close[i] >= data.open[i] ? colour("buy") : colour("sell");
      ctx.lineWidth = Math.max(1, devicePixelRatio);
      ctx.beginPath();
      ctx.moveTo(left, high);
      ctx.lineTo(left, low);
      ctx.stroke();
      ctx.fillRect(left - half, Math.min(open, close), 2 * half, Math.max(1, Math.abs(close - open)));
    });
    for (const [i, look] of data.marks) visible(plot, (each) => each === i && shape(plot, i, data.close[i], look, look === "suspect" ? colour("warn") : ink));
  };
  const dots = (plot) => visible(plot, (i) => {
    const label = data.outcome[i], value = label && data["p_" + label][i];
    if (value != null) shape(plot, i, value, "dot", colour(label));
  });
  const plots = [], marks = new Map(data.marks.map(([i, , text]) => [i, text]));
  const cursor = { sync: { key: "ticker" }, drag: { x: true, y: false }, points: { show: false } };
  const follow = (plot) => plots.forEach((other) => {
    const { min, max } = plot.scales.x;
    if (other !== plot && (other.scales.x.min !== min || other.scales.x.max !== max)) other.setScale("x", { min, max });
  });
  const none = () => null; // nothing but our own bars is drawn
  const line = (name) => ({ label: name, stroke: colour(name), width: 2, value: (_, v) => percent(v) });
  const options = (height, series, more, paint) => ({
    width: place.clientWidth, height, cursor, series: [day, ...series],
    scales: { x: { time: false }, ...more.scales }, axes: [days, { ...axis, size: 62, ...more.axis }],
    hooks: { draw: [paint], setScale: [(plot, key) => key === "x" && follow(plot)] },
  });
  const field = (name, value = price) => ({ label: name, stroke: ink, paths: none, points: { show: false }, value: (_, v) => value(v) });
  const event = { label: "event", stroke: ink, paths: none, points: { show: false }, scale: "none", value: (_, v, s, i) => marks.get(i) ?? "–" };
  const [above, below] = place.querySelectorAll(".plot");
  above.replaceChildren();
  below.replaceChildren();
  plots.push(new uPlot(options(330, [field("open"), field("high"), field("low"), field("close"), event], {}, bars),
    [x, data.open, data.high, data.low, data.close, x], above));
  plots.push(new uPlot(options(210, ["buy", "hold", "sell"].map(line), { axis: { values: (_, splits) => splits.map((v) => Math.round(100 * v) + " %") } }, dots),
    [x, data.p_buy, data.p_hold, data.p_sell], below));
  const tools = place.querySelector(".tools"), last = x.length - 1;
  tools.replaceChildren();
  for (const [name, count] of [["1 month", 21], ["3 months", 63], ["6 months", 126], ["all", x.length]]) {
    const button = tools.appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = name;
    button.onclick = () => plots[0].setScale("x", { min: Math.max(0, last - count + 1) - 0.5, max: last + 0.5 });
  }
  plots[0].setScale("x", { min: Math.max(0, last - 125) - 0.5, max: last + 0.5 });
  new ResizeObserver(() => place.clientWidth && plots.forEach((each) => each.setSize({ width: place.clientWidth, height: each.height }))).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(place, data), { once: true });
}

ready.add(interactive);
interactive();
