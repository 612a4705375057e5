/* The page's behaviour: tabs, theme, charts, and the stream of a page that is still being written. No text of a run
   ever becomes markup here: it is set as text, and where Plotly would read tags in it, they are escaped. */
(() => {
  "use strict";

  const $ = (selector, inside = document) => inside.querySelector(selector);
  const $$ = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const page = JSON.parse($("#data").textContent);
  const root = document.documentElement;
  const NOTHING = "–";

  /* ---- numbers, as in numbers.py ---- */

  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
  const grouped = (value, digits) => value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const show = {
    score: (value) => (isNumber(value) ? value.toFixed(3) : NOTHING),
    rate: (value) => (isNumber(value) ? (value >= 100 ? grouped(value, 0) : value.toFixed(1)) : NOTHING),
    memory: (value) => (isNumber(value) ? `${(value / 1e9).toFixed(2)} GB` : NOTHING),
    error: (value) => (isNumber(value) ? value.toExponential(1).replace(/e([+-])(\d)$/, "e$10$2") : NOTHING),
    count: (value) => (isNumber(value) ? grouped(value, 0) : NOTHING),
    seconds(value) {
      if (!isNumber(value)) return NOTHING;
      if (value < 10) return `${value.toFixed(2)} s`;
      if (value < 99.95) return `${value.toFixed(1)} s`;
      const whole = Math.round(value);
      return whole < 3600
        ? `${Math.floor(whole / 60)} min ${whole % 60} s`
        : `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
    },
    left(value) {
      if (value < 90) return `${Math.max(Math.round(value), 1)} s`;
      const minutes = Math.round(value / 60);
      return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
    },
  };
  const FIGURES = {
    loss: show.score, train_acc: show.score, test_acc: show.score,
    examples_per_sec: show.rate, compute_examples_per_sec: show.rate,
    startup_seconds: show.seconds, first_step_seconds: show.seconds, peak_memory_bytes: show.memory,
  };

  /* ---- what is known of the runs ---- */

  const KINDS = {
    waiting: "waiting", starting: "going", measuring: "going", training: "going", evaluating: "going",
    finishing: "going", running: "going", done: "done", interrupted: "stopped", unfinished: "stopped",
    diverged: "failed", failed: "failed",
  };
  const SIGNS = { waiting: "○", going: "▶", done: "✓", stopped: "‖", failed: "✕" };
  const kindOf = (run) => KINDS[run.status] || "stopped";
  const keyOf = (event) => `${event.event} ${event.step}`;
  const inOrder = (events) => [...events.values()].sort((a, b) => a.step - b.step);

  const runs = page.runs.map((run) => ({ ...run, events: indexed(run.events), shown: true }));
  const runOf = new Map(runs.map((run) => [run.id, run]));

  /* By kind and step: a point that comes twice, after the stream was lost, is there once. */
  function indexed(events) {
    return new Map((events || []).map((event) => [keyOf(event), event]));
  }

  const eventsOf = (run, kind) => inOrder(run.events).filter((event) => event.event === kind);
  const shownRuns = () => runs.filter((run) => run.shown);

  function figureOf(run, field) {
    // Points of the curve may be an hour apart; what a run that goes on says of itself is of this second.
    if (KINDS[run.status] === "going" && isNumber((run.now || {})[field])) return run.now[field];
    if (isNumber((run.result || {})[field])) return run.result[field];
    let found = null;
    for (const event of inOrder(run.events)) {
      if (event.event !== "layers" && isNumber(event[field])) found = event[field];
    }
    return found;
  }

  /* ---- colours and fonts of charts: from the style sheet, as they are now ---- */

  let looks = null;

  function findLooks() {
    const probe = document.createElement("span");
    root.append(probe);
    const resolve = (name) => {
      probe.style.color = `var(--${name})`;
      const found = getComputedStyle(probe).color;
      return found.startsWith("rgb") ? found : "#888";
    };
    const size = parseFloat(getComputedStyle(root).fontSize);
    looks = {
      runs: [0, 1, 2, 3, 4, 5, 6].map((index) => resolve(`c${index}`)),
      ink: resolve("ink"), muted: resolve("muted"), line: resolve("line"), bg: resolve("bg"), bad: resolve("bad"),
      font: getComputedStyle(document.body).fontFamily, size: Math.round(size * 0.82),
    };
    probe.remove();
  }

  const faded = (color, alpha) => color.replace(/^rgba?\(([^,]+),([^,]+),([^,)]+).*$/, `rgba($1,$2,$3,${alpha})`);
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const MARKERS = ["circle", "square", "diamond", "triangle-up", "x", "cross"];
  const colorOf = (run) => looks.runs[run.color];
  /* Plotly reads some tags in texts. */
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function layoutWith(more = {}) {
    const axis = {
      gridcolor: looks.line, linecolor: looks.line, zeroline: false, automargin: true, fixedrange: false,
      tickfont: { color: looks.muted }, title: { font: { color: looks.muted }, standoff: 8 },
    };
    const { xaxis, yaxis, ...rest } = more;
    const titled = (words) => (words ? { ...axis.title, text: words } : undefined);
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, dragmode: "zoom",
      font: { family: looks.font, size: looks.size, color: looks.ink },
      margin: { l: 52, r: 14, t: 10, b: 40 }, hovermode: "x unified",
      hoverlabel: { bgcolor: looks.bg, bordercolor: looks.line, font: { color: looks.ink, size: looks.size } },
      ...rest,
      xaxis: { ...axis, ...xaxis, title: titled((xaxis || {}).words) },
      yaxis: { ...axis, ...yaxis, title: titled((yaxis || {}).words) },
    };
  }

  function empty(words) {
    return {
      traces: [],
      layout: layoutWith({
        xaxis: { visible: false }, yaxis: { visible: false },
        annotations: [{ text: plain(words), showarrow: false, x: 0.5, y: 0.5, xref: "paper", yref: "paper", font: { color: looks.muted, size: looks.size * 1.1 } }],
      }),
      words,
    };
  }

  /* ---- the charts: each gives traces, a layout and itself in words ---- */

  const OVER = { progress: "epochs", step: "steps", seconds: "seconds of training" };
  const choices = { over: "progress", measure: "loss", reference: runs.length ? runs[0].id : "", log: true, layer: "" };
  const NAMES = { loss: "training loss", train_acc: "training accuracy", test_loss: "test loss", test_acc: "test accuracy" };

  const kindFor = (field) => (field.startsWith("test_") ? "epoch" : "step");
  const pointsOf = (run, field) => eventsOf(run, kindFor(field)).filter((event) => isNumber(event[field]));

  function line(run, x, y, more = {}) {
    return {
      type: "scatter", mode: x.length > 40 ? "lines" : "lines+markers", name: plain(run.label), x, y, connectgaps: false,
      line: { color: colorOf(run), dash: DASHES[run.dash], width: 2.2 },
      marker: { color: colorOf(run), symbol: MARKERS[run.marker], size: 6 }, ...more,
    };
  }

  function overTraining(field, name, value, more = {}) {
    const traces = [];
    const words = [];
    for (const run of shownRuns()) {
      const found = value(run).filter((point) => isNumber(point.x) && isNumber(point.y));
      if (!found.length) continue;
      traces.push(line(run, found.map((point) => point.x), found.map((point) => point.y), more.trace));
      words.push(`${run.label} from ${show.score(found[0].y)} to ${show.score(found[found.length - 1].y)}`);
    }
    if (!traces.length) return empty(more.none || "No points yet");
    const layout = layoutWith({ xaxis: { words: OVER[choices.over], rangemode: "tozero" }, yaxis: { rangemode: "normal", hoverformat: ".4~f", ...more.yaxis } });
    return { traces, layout, words: `${name} over ${OVER[choices.over]}: ${words.join("; ")}.` };
  }

  const curve = (field) => () => {
    const found = overTraining(
      field, NAMES[field][0].toUpperCase() + NAMES[field].slice(1),
      (run) => pointsOf(run, field).map((event) => ({ x: event[choices.over], y: event[field] })),
    );
    if (found.traces.length && field.endsWith("loss")) found.layout.yaxis.range = rangeOfSound(field);
    return found;
  };

  /* A loss that diverges would press all others into one line; it leaves the picture instead. */
  function rangeOfSound(field) {
    const values = (some) => some.flatMap((run) => pointsOf(run, field).map((event) => event[field]));
    const sound = values(shownRuns().filter((run) => run.status !== "diverged"));
    if (!sound.length) return undefined;
    const [low, high] = [Math.min(...sound), Math.max(...sound)];
    return Math.max(...values(shownRuns())) > high + (high - low) ? [low - 0.05 * (high - low), high + 0.15 * (high - low)] : undefined;
  }

  function difference() {
    const { measure, log } = choices;
    const reference = runOf.get(choices.reference);
    const over = choices.over === "seconds" ? "step" : choices.over;
    const base = new Map(pointsOf(reference, measure).map((event) => [event.step, event[measure]]));
    const traces = [];
    const words = [];
    let smallest = Infinity;
    for (const run of shownRuns().filter((other) => other !== reference)) {
      const found = pointsOf(run, measure).filter((event) => base.has(event.step) && isNumber(event[over]));
      const gaps = found.map((event) => event[measure] - base.get(event.step));
      if (!found.length) continue;
      const largest = Math.max(...gaps.map(Math.abs));
      words.push(`${run.label} at most ${largest === 0 ? "0" : show.error(largest)}`);
      for (const gap of gaps) if (gap !== 0) smallest = Math.min(smallest, Math.abs(gap));
      const y = log ? gaps.map((gap) => Math.abs(gap) || null) : gaps;
      traces.push(line(run, found.map((event) => event[over]), y));
    }
    if (!traces.length) return empty("Nothing to compare at equal steps yet");
    if (log && smallest === Infinity) return empty("No difference at all");
    const layout = layoutWith({
      xaxis: { words: OVER[over], rangemode: "tozero" },
      yaxis: log
        ? { type: "log", exponentformat: "power", dtick: 1, hoverformat: ".1e" }
        : { zeroline: true, zerolinecolor: looks.muted, exponentformat: "power", hoverformat: "+.1e" },
    });
    return { traces, layout, words: `Difference in ${NAMES[measure]} from ${reference.label} at equal steps: ${words.join("; ")}.` };
  }

  function errors(key, check) {
    const names = Object.keys(page.verify);
    const rows = [...new Set(names.flatMap((name) => Object.keys(page.verify[name][key])))];
    const allowed = Math.max(...names.map((name) => page.verify[name].tolerances[check]).filter(isNumber));
    const traces = [];
    const words = [];
    const all = isNumber(allowed) ? [allowed] : [];
    for (const name of names) {
      const y = rows.map((row) => page.verify[name][key][row]).map((error) => (isNumber(error) && error > 0 ? error : null));
      const known = y.filter(isNumber);
      all.push(...known);
      words.push(`${name} at most ${known.length ? show.error(Math.max(...known)) : "0"}`);
      traces.push({ type: "bar", name: plain(name), x: rows.map(plain), y, marker: { color: looks.runs[page.colors[name]] } });
    }
    if (!all.length) return empty("No errors were told");
    const layout = layoutWith({
      bargap: 0.25, hovermode: "x unified",
      xaxis: { tickangle: -55, tickfont: { size: looks.size * 0.92, color: looks.muted }, gridcolor: "rgba(0,0,0,0)" },
      yaxis: { type: "log", exponentformat: "power", dtick: 1, hoverformat: ".1e", range: [Math.floor(Math.log10(Math.min(...all)) - 0.2), Math.ceil(Math.log10(Math.max(...all)) + 0.1)], words: "relative error" },
    });
    if (isNumber(allowed)) {
      layout.shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: allowed, y1: allowed, line: { color: looks.bad, dash: "dash", width: 2 } }];
      layout.annotations = [{ xref: "paper", x: 1, xanchor: "right", y: Math.log10(allowed), yanchor: "bottom", showarrow: false, text: `allowed ${show.error(allowed)}`, font: { color: looks.bad } }];
    }
    return { traces, layout, words: `Relative errors on a log scale: ${words.join("; ")}; allowed ${show.error(allowed)}.` };
  }

  function bars(fields, format, words, unit = "", scale = 1) {
    const known = runs.filter((run) => fields.some(({ field }) => isNumber(figureOf(run, field))));
    if (!known.length) return empty("No figures yet");
    const told = [];
    const traces = fields.map(({ field, name, hatched }) => {
      const values = known.map((run) => figureOf(run, field));
      told.push(`${name}: ${known.map((run, at) => `${run.label} ${format(values[at])}`).join(", ")}`);
      return {
        type: "bar", orientation: "h", name, y: known.map((run) => plain(run.label)), x: values.map((value) => (isNumber(value) ? value / scale : null)),
        text: values.map((value) => (isNumber(value) ? format(value) : "")), textposition: "auto", cliponaxis: false,
        insidetextfont: { color: hatched ? looks.ink : looks.bg }, outsidetextfont: { color: looks.ink }, hoverinfo: "y+name+text", constraintext: "none", textangle: 0,
        marker: {
          color: known.map((run) => (hatched ? faded(colorOf(run), 0.3) : colorOf(run))),
          line: { color: known.map(colorOf), width: 1.5 },
          ...(hatched ? { pattern: { shape: "/", size: 7, solidity: 0.22, fgcolor: known.map(colorOf), bgcolor: known.map((run) => faded(colorOf(run), 0.1)) } } : {}),
        },
      };
    });
    const layout = layoutWith({
      hovermode: "closest", bargap: 0.3,
      xaxis: { rangemode: "tozero", words: unit },
      yaxis: { autorange: "reversed", gridcolor: "rgba(0,0,0,0)", tickfont: { color: looks.ink } },
    });
    return { traces, layout, words: `${words}. ${told.join("; ")}.`, rows: known.length * fields.length + (fields.length > 1 ? known.length * 0.4 : 0) };
  }

  const lost = (field, none) => () => {
    const count = (run) => eventsOf(run, "step").filter((event) => Array.isArray(event[field]));
    const named = (event) => event[field].map((index) => page.classes[index] || `class ${index}`).join(", ") || "none";
    const any = shownRuns().some((run) => count(run).some((event) => event[field].length));
    if (!any && shownRuns().some((run) => count(run).length)) return empty(none);
    const found = overTraining(field, "Number of classes", (run) => count(run).map((event) => ({ x: event[choices.over], y: event[field].length })), {
      yaxis: { dtick: 1, hoverformat: "d" },
    });
    const most = Math.max(1, ...found.traces.flatMap((trace) => trace.y));
    found.layout.yaxis.range = [-0.08 * most, most * 1.08];
    if (most > 12) found.layout.yaxis.dtick = undefined;
    for (const trace of found.traces) {
      const run = shownRuns().find((other) => plain(other.label) === trace.name);
      trace.line.shape = "hv";
      trace.text = count(run).map((event) => plain(named(event)));
      trace.hovertemplate = "%{y}: %{text}";
    }
    return found;
  };

  function layerNames() {
    return [...new Set(runs.flatMap((run) => eventsOf(run, "layers").flatMap((event) => Object.keys(event.layers || {}))))];
  }

  const layerEvents = (run) => eventsOf(run, "layers").filter((event) => (event.layers || {})[choices.layer]);

  function bands(element) {
    const run = runOf.get(element.dataset.of);
    const found = layerEvents(run).filter((event) => { const told = event.layers[choices.layer].quantiles || []; return told.length === 7 && told.every(isNumber); });
    if (!found.length) return empty("Nothing was seen of this layer yet");
    if (found.length === 1) return empty("Seen once only, as training began");
    const x = found.map((event) => event.progress);
    const quantile = (index) => found.map((event) => event.layers[choices.layer].quantiles[index]);
    const band = (low, high, alpha, name) => [
      { type: "scatter", x, y: quantile(low), mode: "lines", line: { width: 0 }, hoverinfo: "skip" },
      { type: "scatter", x, y: quantile(high), mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: faded(colorOf(run), alpha), hoverinfo: "skip", name },
    ];
    const median = { ...line(run, x, quantile(3)), name: "median", line: { color: colorOf(run), width: 2.5 }, customdata: found.map((event) => event.layers[choices.layer].quantiles), hovertemplate: "median %{y:.3~g}<br>half %{customdata[2]:.3~g} to %{customdata[4]:.3~g}<br>9 of 10 %{customdata[1]:.3~g} to %{customdata[5]:.3~g}<br>all %{customdata[0]:.3~g} to %{customdata[6]:.3~g}<extra></extra>" };
    const all = runs.flatMap(layerEvents).flatMap((event) => event.layers[choices.layer].quantiles || []).filter(isNumber);
    const room = (Math.max(...all) - Math.min(...all)) * 0.04 || 1;
    const layout = layoutWith({
      xaxis: { words: "epochs", range: [0, Math.max(1, ...runs.flatMap(layerEvents).map((event) => event.progress))] },
      yaxis: { range: [Math.min(...all) - room, Math.max(...all) + room] },
    });
    const last = found[found.length - 1].layers[choices.layer].quantiles;
    const words = `Activations of ${choices.layer} in ${run.label} at epoch ${x[x.length - 1]}: median ${last[3].toPrecision(3)}, 90 % between ${last[1].toPrecision(3)} and ${last[5].toPrecision(3)}, all between ${last[0].toPrecision(3)} and ${last[6].toPrecision(3)}.`;
    return { traces: [...band(0, 6, 0.14, "all"), ...band(1, 5, 0.24, "9 of 10"), ...band(2, 4, 0.4, "half"), median], layout, words };
  }

  const ofLayer = (field, name, yaxis) => () => {
    const found = overTraining(field, `${name} in ${choices.layer}`, (run) => layerEvents(run).map((event) => ({ x: event.progress, y: event.layers[choices.layer][field] })), { yaxis, none: "Nothing was seen of this layer yet" });
    if (found.traces.length) found.layout.xaxis.title.text = "epochs";
    return found;
  };

  const CHARTS = {
    loss: curve("loss"), train_acc: curve("train_acc"), test_loss: curve("test_loss"), test_acc: curve("test_acc"),
    difference,
    layers: () => errors("layers", "activation"),
    gradients: () => errors("gradients", "gradient"),
    speed: () => bars([{ field: "examples_per_sec", name: "end to end" }, { field: "compute_examples_per_sec", name: "compute alone", hatched: true }], show.rate, "Images per second", "images/s"),
    startup: () => bars([{ field: "startup_seconds", name: "start-up" }, { field: "first_step_seconds", name: "first step", hatched: true }], show.seconds, "Seconds before training goes", "seconds"),
    memory: () => bars([{ field: "peak_memory_bytes", name: "peak memory" }], show.memory, "Peak memory", "GB", 1e9),
    rate: () => overTraining("examples_per_sec", "Images per second", (run) => pointsOf(run, "examples_per_sec").map((event) => ({ x: event[choices.over], y: event.examples_per_sec })), { yaxis: { rangemode: "tozero", hoverformat: ",.0f" } }),
    dead: lost("dead_classes", "No class was dead"),
    missed: lost("never_predicted", "Every class was predicted"),
    bands, zeros: ofLayer("zeros", "Share of zeros", { range: [-0.04, 1.04], tickformat: ".0%", hoverformat: ".1%" }), std: ofLayer("std", "Standard deviation", { rangemode: "tozero" }),
  };

  /* ---- drawing: only what is seen, and what has changed since it was drawn ---- */

  const CONFIG = { displayModeBar: false, responsive: true, showTips: false, doubleClick: "reset+autosize" };
  const stale = new Set($$(".chart"));

  function draw(element) {
    const { traces, layout, words, rows } = CHARTS[element.dataset.chart](element);
    if (element.classList.toggle("none", !traces.length) !== Boolean(element.dataset.none)) {
      Plotly.purge(element); // it is of another height now, and Plotly keeps the one that it has seen
      element.dataset.none = traces.length ? "" : "yes";
      element.style.height = "";
    }
    if (rows) {
      const size = Math.round(Math.max(9, rows * 1.55 + 3.5) * parseFloat(getComputedStyle(root).fontSize));
      element.style.height = `${size}px`;
    }
    element.setAttribute("aria-label", words);
    Plotly.react(element, traces, layout, CONFIG);
    stale.delete(element);
  }

  function drawSeen() {
    if (!looks) findLooks();
    const everything = root.classList.contains("printing");
    for (const element of [...stale]) {
      if (everything || element.closest(".panel.shown")) draw(element);
    }
  }

  function drawAgain(...names) {
    for (const element of $$(".chart")) if (!names.length || names.includes(element.dataset.chart)) stale.add(element);
    drawSeen();
  }

  function lookAgain() {
    looks = null;
    drawAgain();
  }

  /* ---- tabs ---- */

  const tabs = $$('.tabs [role="tab"]');

  function choose(tab, focus) {
    for (const other of tabs) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
      $(`#${other.getAttribute("aria-controls")}`).classList.toggle("shown", chosen);
    }
    if (focus) tab.focus({ preventScroll: true });
    tab.scrollIntoView({ block: "nearest", inline: "nearest" });
    drawSeen();
  }

  function goTo(tab) {
    const bar = $(".tabs");
    choose(tab, true);
    if (window.scrollY > bar.offsetTop) window.scrollTo(0, bar.offsetTop);
    try { history.replaceState(null, "", tab.hash); } catch { /* the address is a convenience only */ }
  }

  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", (event) => { event.preventDefault(); goTo(tab); });
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1, " ": index }[event.key];
      if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      goTo(tabs[(to + tabs.length) % tabs.length]);
    });
  }
  const asked = () => tabs.find((tab) => tab.hash === location.hash);
  window.addEventListener("hashchange", () => { if (asked()) choose(asked()); });

  /* ---- theme ---- */

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const nameTheme = () => { $("#theme-word").textContent = isDark() ? "Light" : "Dark"; };

  $("#theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("nin-multi-theme", root.dataset.theme); } catch { /* then it is forgotten */ }
    nameTheme();
    lookAgain();
  });
  dark.addEventListener("change", () => { nameTheme(); lookAgain(); });

  /* ---- paper ---- */

  function setPrinting(on) {
    if (root.classList.contains("printing") === on) return;
    root.classList.toggle("printing", on);
    lookAgain();
  }
  window.addEventListener("beforeprint", () => setPrinting(true));
  window.addEventListener("afterprint", () => setPrinting(false));
  matchMedia("print").addEventListener("change", (event) => setPrinting(event.matches));

  /* ---- choices ---- */

  for (const button of $$("[data-toggle]")) {
    button.addEventListener("click", () => {
      const run = runOf.get(button.dataset.toggle);
      run.shown = !run.shown;
      for (const other of $$("[data-toggle]")) {
        if (other.dataset.toggle === run.id) other.setAttribute("aria-pressed", String(run.shown));
      }
      drawAgain();
    });
  }

  function listen(selector, name, value, ...charts) {
    for (const element of $$(selector)) {
      element.addEventListener("change", () => { choices[name] = value(element); drawAgain(...charts); });
    }
  }
  listen('[name="over"]', "over", (element) => element.value);
  listen("#reference", "reference", (element) => element.value, "difference");
  listen("#measure", "measure", (element) => element.value, "difference");
  listen("#log", "log", (element) => element.checked, "difference");
  listen("#layer", "layer", (element) => element.value, "bands", "zeros", "std");

  function offerLayers() {
    const select = $("#layer");
    const names = layerNames();
    if (!select || names.length === select.options.length) return;
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    choices.layer = names.includes(choices.layer) ? choices.layer : names[0];
    select.value = choices.layer;
  }

  for (const button of $$("[data-code]")) {
    button.addEventListener("click", () => {
      for (const other of $$("[data-code]")) other.setAttribute("aria-pressed", String(other === button));
      for (const source of $$("[data-source]")) source.classList.toggle("shown", source.dataset.source === button.dataset.code);
    });
  }

  const tell = (words) => { $("#told").textContent = words; };

  for (const button of $$("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = $(`#${button.dataset.copy}`);
      const copied = await copy(source);
      tell(copied ? "Copied." : "It could not be copied; it is selected now.");
      button.firstChild.textContent = copied ? "Copied" : "Selected";
      setTimeout(() => { button.firstChild.textContent = "Copy"; }, 2000);
    });
  }

  async function copy(source) {
    try {
      await navigator.clipboard.writeText(source.textContent);
      return true;
    } catch {
      getSelection().selectAllChildren(source);
      return document.execCommand("copy");
    }
  }

  /* ---- a page that is still being written ---- */

  const QUIET = 500; // milliseconds between two drawings
  const PATIENCE = 3; // attempts to reach the program before the page says that it is gone
  let due = null;
  let drawn = 0;

  function changed() {
    if (due === null) due = setTimeout(update, Math.max(0, drawn + QUIET - performance.now()));
  }

  function update() {
    due = null;
    for (const run of runs) for (const element of $$(`[data-run="${run.id}"]`)) showRun(run, element);
    $("#verdict").textContent = howFar();
    offerLayers();
    if ($("#values") && $("#values").open) fillValues();
    drawAgain();
    drawn = performance.now();
  }

  function put(element, words) {
    if (!element) return;
    if (element.textContent !== words) element.textContent = words;
  }

  function showRun(run, element) {
    const kind = kindOf(run);
    for (const [field, format] of Object.entries(FIGURES)) put($(`[data-field="${field}"]`, element), format(figureOf(run, field)));
    put($('[data-live="status"]', element), run.status);
    if (!element.matches(".card")) {
      const word = $(".word", element);
      if (word) { word.className = `word ${kind}`; word.hidden = kind === "done"; }
      return;
    }
    element.className = `card ${kind}`;
    put($(".sign", element), SIGNS[kind]);
    $("progress", element).value = run.steps > 0 ? Math.min(run.step / run.steps, 1) : Number(run.status === "done");
    put($('[data-live="where"]', element), where(run));
    put($('[data-live="left"]', element), kind === "going" && isNumber(run.seconds_left) ? `, ${show.left(run.seconds_left)} left` : "");
    const reason = $('[data-live="reason"]', element);
    put(reason, run.reason || "");
    reason.hidden = !run.reason;
    const goOn = $('[data-live="to_go_on"]', element);
    put($("code", goOn), run.to_go_on || "");
    goOn.hidden = !run.to_go_on;
  }

  function where(run) {
    const epoch = run.epochs ? `epoch ${run.epoch || 0} of ${run.epochs}, ` : "";
    return `${epoch}step ${show.count(run.step || 0)}${run.steps ? ` of ${show.count(run.steps)}` : ""}`;
  }

  function howFar() {
    const of = (kind) => runs.filter((run) => kindOf(run) === kind);
    const parts = [`${of("done").length} of ${runs.length} ${runs.length === 1 ? "run is" : "runs are"} done`];
    parts.push(...of("failed").map((run) => `${run.label} ${run.status}`), ...of("going").map((run) => `${run.label}: ${run.status}`));
    return `${parts.join("; ")}.`;
  }

  function fillValues() {
    const rows = runs.flatMap((run) => inOrder(run.events).filter((event) => event.event !== "layers").map((event) => {
      const row = document.createElement("tr");
      const head = row.appendChild(document.createElement("th"));
      head.scope = "row";
      head.textContent = run.label;
      const cells = [isNumber(event.progress) ? event.progress.toFixed(2) : NOTHING, show.count(event.step), show.seconds(event.seconds), show.score(event.loss), show.score(event.train_acc), show.score(event.test_loss), show.score(event.test_acc)];
      for (const words of cells) Object.assign(row.appendChild(document.createElement("td")), { className: "number", textContent: words });
      return row;
    }));
    $("#values tbody").replaceChildren(...rows);
  }

  function take(run, fields) {
    const { events, id, ...rest } = fields;
    for (const name of ["label", "backend", "color", "dash", "marker"]) delete rest[name]; // as the page was written
    if (rest.result) rest.result = { ...run.result, ...rest.result };
    Object.assign(run, rest);
    if (events) run.events = indexed(events);
  }

  function follow(address) {
    let ended = false;
    let failures = 0; // in a row

    const say = (state, words) => {
      const element = $("#connection");
      element.hidden = false;
      element.dataset.state = state;
      put(element, words);
    };
    const heard = (handle) => (event) => {
      if (ended) return;
      failures = 0;
      handle(event.data ? JSON.parse(event.data) : {});
      changed();
    };

    function open() {
      const stream = new EventSource(address);
      stream.addEventListener("open", () => { failures = 0; say("connected", "connected"); });
      stream.addEventListener("snapshot", heard((comparison) => {
        const strangers = comparison.runs.filter((run) => !runOf.has(run.id));
        if (strangers.length) loadAgain(`other runs ${comparison.created}`);
        for (const run of comparison.runs) if (runOf.has(run.id)) take(runOf.get(run.id), run);
      }));
      stream.addEventListener("run", heard((fields) => { if (runOf.has(fields.id)) take(runOf.get(fields.id), fields); }));
      stream.addEventListener("point", heard(({ id, event }) => {
        const run = runOf.get(id);
        if (!run || !event) return;
        run.events.set(keyOf(event), event);
        if (isNumber(event.step) && event.event !== "layers") run.step = Math.max(run.step || 0, event.step);
      }));
      stream.addEventListener("over", () => {
        ended = true;
        stream.close();
        say("ended", "ended");
        if (!loadAgain(`over ${page.created}`)) say("ended", "ended; load the page again for the whole report");
      });
      stream.addEventListener("error", () => {
        if (ended) return;
        failures += 1;
        const gone = failures > PATIENCE;
        say(gone ? "gone" : "reconnecting", gone ? "no answer from the program; the page stays as it was" : "reconnecting");
        if (stream.readyState !== EventSource.CLOSED) return; // it tries again by itself
        setTimeout(open, Math.min(1000 * failures, 15000));
      });
    }
    open();
  }

  /* Once for each cause: a page that finds itself unchanged must not load itself for ever. */
  function loadAgain(cause) {
    try {
      if (sessionStorage.getItem("nin-multi-loaded") === cause) return false;
      sessionStorage.setItem("nin-multi-loaded", cause);
    } catch {
      return false; // where nothing can be remembered, the reader does it
    }
    location.reload();
    return true;
  }

  /* ---- begin ---- */

  for (const element of [$("#theme"), ...$$("[data-copy]")]) element.hidden = false;
  nameTheme();
  offerLayers();
  if ($("#values")) $("#values").addEventListener("toggle", () => { if (page.events && $("#values").open) fillValues(); });
  if (asked()) choose(asked());
  if (matchMedia("print").matches) root.classList.add("printing");
  drawSeen();
  if (page.events) follow(page.events);
})();
