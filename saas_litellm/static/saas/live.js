// Keeps the page going over one WebSocket: figures as they are, calls as they end.
const live = document.getElementById("live");
const part = (name) => document.getElementById(`live-${name}`);
const rows = part("rows");
const SIGNED_OUT = 4401, NOT_ALLOWED = 4403, FULL = 1013;
// The server speaks once a second: a longer silence is a connection that died without a word.
const SILENCE = 10_000;
// A page that nobody sees lets go, so that it costs nothing.
const HIDDEN = 30_000;
// How often the summary is read to whoever listens.
const SUMMARY = 30_000;
const waiting = new Map();
let socket, silence, countdown, hiding, tries = 0, summedUpAt = -Infinity;

function say(text, state) {
  const status = part("status");
  if (status.textContent !== text) status.textContent = text;
  status.className = `state state-${state}`;
}

function connect() {
  clearInterval(countdown);
  part("countdown").textContent = "";
  if (socket) return;
  const address = new URL(live.dataset.socket, location.href);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const opened = socket = new WebSocket(address);
  listen();
  opened.onmessage = (event) => {
    tries = 0;
    listen();
    say("Live", "ok");
    show(JSON.parse(event.data));
  };
  opened.onclose = (event) => { if (socket === opened) closed(event.code, event.reason); };
}

function letGo() {
  const left = socket;
  socket = undefined;
  clearTimeout(silence);
  left?.close();
}

function listen() {
  clearTimeout(silence);
  silence = setTimeout(() => { letGo(); wait("No word from the platform"); }, SILENCE);
}

function closed(code, reason) {
  letGo();
  if (code === SIGNED_OUT || code === NOT_ALLOWED) {
    say(reason, "bad");
    part("again").hidden = code === NOT_ALLOWED;
  } else if (document.hidden) {
    say("Resting while nobody looks", "warn");
  } else {
    wait(code === FULL ? reason : "Connection lost", code === FULL ? 30 : 0);
  }
}

// 1, 2, 4 … 30 seconds, each up to a half longer: not all pages come back at once.
function wait(why, least = 0) {
  let seconds = Math.max(least, Math.min(30, 2 ** tries++));
  seconds = Math.ceil(seconds * (1 + Math.random() / 2));
  say(`${why}: reconnecting`, "warn");
  const tell = () => { part("countdown").textContent = `in ${seconds} s`; };
  tell();
  clearInterval(countdown);
  countdown = setInterval(() => { seconds -= 1; seconds > 0 ? tell() : connect(); }, 1000);
}

function show({ figures, calls }) {
  for (const tile of figures.tiles) {
    const [, value, note] = live.querySelector(`[data-tile="${tile.key}"]`).children;
    value.textContent = tile.shown;
    value.title = tile.exact;
    value.classList.toggle("bad", tile.is_bad);
    note.textContent = tile.note;
  }
  part("aliases").replaceChildren(...(figures.aliases.length ? figures.aliases.map(alias) : [nothing()]));
  part("trails").hidden = false;
  trails(figures.trail);
  for (const call of calls) waiting.set(call.id, call);
  listCalls();
  if (Date.now() - summedUpAt >= SUMMARY) {
    summedUpAt = Date.now();
    part("summary").textContent = figures.summary;
  }
}

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function alias({ name, count }) {
  const line = element("li");
  line.append(element("span", count, "value"), element("span", name));
  return line;
}

function nothing() { return element("li", "Nothing is in flight.", "muted"); }

function trails({ step_seconds: step, tokens, price_usd: price, cost_usd: cost }) {
  const perSecond = (values) => values.map((value) => Number(value) / step);
  const peak = draw("tokens", [perSecond(tokens)]);
  live.querySelector("[data-peak=tokens]").textContent = `peak ${peak.toLocaleString("en", { maximumFractionDigits: 1 })}`;
  const dear = draw("money", [perSecond(price), perSecond(cost)]);
  live.querySelector("[data-peak=money]").textContent = `peak $${dear.toLocaleString("en", { maximumFractionDigits: 6 })}`;
}

function draw(name, series) {
  const svg = live.querySelector(`[data-trail=${name}]`);
  const { width, height } = svg.viewBox.baseVal;
  const peak = Math.max(0, ...series.flat());
  series.forEach((values, index) => {
    let line = svg.children[index];
    if (!line) {
      line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      line.setAttribute("class", `chart-s${index}`);
      svg.append(line);
    }
    const point = (value, at) => `${(at * width / (values.length - 1)).toFixed(1)},${(height - 1 - Math.max(0, value) / (peak || 1) * (height - 2)).toFixed(1)}`;
    line.setAttribute("points", values.map(point).join(" "));
  });
  return peak;
}

let isPaused = false;

// Rows that stay keep their elements: a link under the pointer or in focus is not taken away.
function listCalls() {
  const most = Number(live.dataset.most);
  for (const id of [...waiting.keys()].slice(0, -most)) waiting.delete(id);
  if (isPaused) {
    part("pause").textContent = waiting.size ? `Go on (${waiting.size} new)` : "Go on";
    return;
  }
  const known = new Map([...rows.children].map((line) => [line.dataset.call, line]));
  for (const call of [...waiting.values()].sort((one, other) => one.at < other.at ? -1 : 1)) {
    const line = row(call), before = known.get(call.id);
    if (before?.textContent === line.textContent) continue;
    before?.remove();
    const after = [...rows.children].find((other) => other.dataset.at <= call.at);
    rows.insertBefore(line, after ?? null);
  }
  waiting.clear();
  while (rows.children.length > most) rows.lastElementChild.remove();
  part("none").hidden = rows.children.length > 0;
}

function row(call) {
  const line = element("tr", "", "is-new");
  Object.assign(line.dataset, { call: call.id, at: call.at });
  const time = element("th");
  time.scope = "row";
  const link = element("a", call.time);
  link.href = call.link;
  time.append(link);
  const status = element("td");
  status.append(element("span", call.error || call.status, `state state-${call.is_failed ? "bad" : "ok"}`));
  const money = ({ shown, exact }) => Object.assign(element("td", shown), { title: exact });
  line.append(
    time, element("td", call.team), element("td", call.job_type), element("td", call.alias), status,
    element("td", call.tokens), element("td", call.latency), money(call.price), money(call.cost),
  );
  return line;
}

part("pause").hidden = false;
part("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  part("pause").textContent = "Pause the list";
  listCalls();
});
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) {
    hiding = setTimeout(() => {
      clearInterval(countdown);
      part("countdown").textContent = "";
      say("Resting while nobody looks", "warn");
      letGo();
    }, HIDDEN);
  } else if (!socket && part("again").hidden) {
    connect();
  }
});
connect();
