// The live page: what the WebSocket tells (apps/console/live/consumer.py), as a table and as the runs that go on. Names of
// agents, tools and keys are anybody's: they become text only, never markup.
document.addEventListener("DOMContentLoaded", () => {
  const page = document.getElementById("live");
  if (!page) return;
  const by = (id) => document.getElementById(`live-${id}`);
  const MOST_ROWS = 500;
  const MOST_LINES = 2000; // remembered, so that a filter finds more than is on the page
  const MOST_RUNS = 30; // shown at once
  const MOST_STEPS = 6; // of a run
  const MOST_ENDED = 6;
  const LINGER = 4000; // ms that an ended run stays among those that go on
  const SILENCE = 40000; // ms; the server says something every 15 s
  const FIRST_SILENCE = 10000; // ms, of a connection that has said nothing yet: the first words come at once. Then twice as long

  const make = (tag, text = "", className = "") => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const took = (ms) => {
    if (ms === undefined || ms === null) return "";
    return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10000 ? 1 : 0)} s`;
  };
  const plural = (count, word) => `${count.toLocaleString()} ${word}${count === 1 ? "" : "s"}`;

  // --- filters: in the address too, so that a reload keeps them and a link can set them ---------------------------------
  const chips = [...document.querySelectorAll("#live-filters .live-kind")];
  const kinds = new Map(chips.map((chip) => [chip.dataset.kind, chip.dataset]));
  const asked = new URLSearchParams(location.search);
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const press = (button, is) => button.setAttribute("aria-pressed", String(is));
  const wanted = (asked.get("kind") ?? "").split(",");
  for (const chip of chips) press(chip, wanted.includes(chip.dataset.kind));
  press(by("problems"), asked.has("problems"));
  by("agent").value = asked.get("agent") ?? "";
  by("text").value = asked.get("text") ?? "";

  let filter = {};
  const readFilter = () => {
    filter = {
      kinds: new Set(chips.filter(pressed).map((chip) => chip.dataset.kind)),
      problems: pressed(by("problems")),
      agent: by("agent").value.trim().toLowerCase(),
      text: by("text").value.trim().toLowerCase(),
    };
    const kept = new URLSearchParams();
    if (filter.kinds.size) kept.set("kind", [...filter.kinds].join(","));
    if (filter.problems) kept.set("problems", "1");
    if (filter.agent) kept.set("agent", filter.agent);
    if (filter.text) kept.set("text", filter.text);
    history.replaceState(null, "", kept.toString() ? `?${kept}` : location.pathname);
  };
  const isFiltered = () => filter.kinds.size || filter.problems || filter.agent || filter.text;
  const fits = (line) => {
    if (line.gap) return true;
    if (filter.kinds.size && !filter.kinds.has(line.kind)) return false;
    if (filter.problems && !line.is_bad) return false;
    if (filter.agent && !(line.agent ?? "").toLowerCase().includes(filter.agent)) return false;
    return !filter.text || line.words.includes(filter.text);
  };

  // --- the table ----------------------------------------------------------------------------------------------------------
  const rows = by("rows");
  let lines = []; // oldest first
  let isPaused = false;
  let unseen = 0; // lines that came while it is paused
  const agents = new Set();

  const runLink = (line) => {
    const link = make("a", line.request_id || line.run_id);
    // Django's admin writes its keys so in addresses.
    link.href = page.dataset.run.replace("RUN", encodeURIComponent(line.run_id.replaceAll("_", "_5F")));
    link.title = `Run ${line.run_id}`;
    return link;
  };
  const row = (line) => {
    const element = document.createElement("tr");
    if (line.gap) {
      element.dataset.gap = "";
      const cell = make("td", line.gap);
      cell.colSpan = 7;
      element.append(cell);
      return element;
    }
    const at = new Date(line.at);
    const time = make("time", at.toLocaleTimeString([], { hour12: false }));
    time.dateTime = line.at;
    time.title = at.toLocaleString();
    const shown = kinds.get(line.kind);
    const kind = make("span", "", "live-kind");
    kind.dataset.kind = line.kind;
    const icon = make("span", shown?.icon ?? "info", "material-symbols-outlined");
    icon.ariaHidden = "true";
    kind.append(icon, shown?.word ?? line.kind);
    const what = make("td", line.what, line.is_bad ? "live-bad" : "");
    what.title = line.name;
    const request = make("td");
    if (line.run_id && !runs.has(line.run_id)) request.append(runLink(line));
    else request.textContent = line.request_id ?? "";
    if (line.run_id) request.dataset.run = line.run_id; // which has a page once it has ended
    if (line.is_bad) element.dataset.bad = "";
    const cells = [make("td"), make("td"), make("td", line.agent), make("td", line.key), what];
    cells[0].append(time);
    cells[1].append(kind);
    element.append(...cells, make("td", took(line.duration_ms)), request);
    return element;
  };
  const showCount = () => {
    const kept = lines.filter((line) => !line.gap).length;
    by("count").textContent = isFiltered() ? `${rows.childElementCount} of ${kept}` : kept ? String(kept) : "";
    by("none").hidden = rows.childElementCount > 0;
    by("none").textContent =
      lines.length && isFiltered()
        ? "None of the events so far fits the filters."
        : "Nothing has happened yet. What happens appears here by itself: send a chat, save an agent, change a setting.";
  };
  const showAll = () => {
    rows.replaceChildren(...lines.filter(fits).slice(-MOST_ROWS).reverse().map(row));
    showCount();
  };
  const add = (more, isHistory) => {
    lines = lines.concat(more).slice(-MOST_LINES);
    if (isPaused) {
      unseen += more.filter((line) => !line.gap).length;
      showPause();
      return;
    }
    const made = more.filter(fits).slice(-MOST_ROWS).reverse().map(row);
    if (!isHistory) for (const element of made) element.dataset.new = "";
    rows.prepend(...made);
    while (rows.childElementCount > MOST_ROWS) rows.lastElementChild.remove();
    showCount();
  };
  const showPause = () => {
    press(by("pause"), isPaused);
    by("pause").firstElementChild.textContent = isPaused ? "play_arrow" : "pause";
    const waiting = unseen ? ` (${unseen.toLocaleString()} new)` : "";
    by("pause").lastElementChild.textContent = isPaused ? `Resume${waiting}` : "Pause";
  };

  // --- runs that go on ----------------------------------------------------------------------------------------------------
  const runs = new Map(); // by id: those that have not ended
  const ended = new Map(); // by id: shown a little longer
  let isStale = false;

  const follow = (line) => {
    if (!line.run_id) return;
    if (line.name === "run_started") {
      runs.set(line.run_id, { ...line, began: Date.now() - Math.max(0, age(line)), steps: [] });
    } else if (line.name === "run_finished") {
      const run = runs.get(line.run_id);
      runs.delete(line.run_id);
      for (const cell of rows.querySelectorAll(`[data-run="${CSS.escape(line.run_id)}"]`)) cell.replaceChildren(runLink(line));
      if (run && age(line) < LINGER) {
        ended.set(line.run_id, { ...run, end: line });
        setTimeout(() => {
          ended.delete(line.run_id);
          isStale = true;
        }, LINGER);
      }
    } else {
      const run = runs.get(line.run_id);
      if (run) {
        run.steps.push(line);
        line.key = run.key || line.key; // its name instead of its number
      }
    }
    isStale = true;
  };
  let clock = 0; // ms by which ours is ahead of the server's
  const age = (line) => Date.now() - clock - Date.parse(line.at);

  const card = (run) => {
    const element = document.createElement("li");
    const head = make("div", "", "live-run");
    const state = make("span", run.end ? run.end.what : took(Date.now() - run.began));
    if (run.end) {
      element.dataset.end = run.end.is_bad ? "bad" : "good";
      if (run.end.is_bad) state.className = "live-bad";
    } else state.dataset.began = run.began;
    head.append(make("span", run.agent || run.run_id), make("span", run.key, "live-quiet"), state);
    element.append(head);
    if (run.steps.length) {
      const list = document.createElement("ol");
      const last = run.steps.slice(-MOST_STEPS);
      if (last.length < run.steps.length) list.append(make("li", `${plural(run.steps.length - last.length, "step")} before`, "live-quiet"));
      for (const step of last) {
        list.append(make("li", [step.what, took(step.duration_ms)].filter(Boolean).join(", "), step.is_bad ? "live-bad" : ""));
      }
      element.append(list);
    }
    return element;
  };
  const showRuns = () => {
    if (isStale && !isPaused) {
      isStale = false;
      const all = [...[...ended.values()].slice(-MOST_ENDED), ...runs.values()];
      const cards = all.slice(-MOST_RUNS).reverse().map(card);
      if (all.length > MOST_RUNS) cards.push(make("li", `and ${plural(all.length - MOST_RUNS, "run")} more`, "live-quiet"));
      by("now").replaceChildren(...cards);
      by("now-none").hidden = all.length > 0;
      by("now-count").textContent = runs.size ? `${plural(runs.size, "run")} in flight` : "";
    } else {
      for (const state of by("now").querySelectorAll("[data-began]")) state.textContent = took(Date.now() - Number(state.dataset.began));
    }
  };
  setInterval(showRuns, 250);

  // --- the connection -------------------------------------------------------------------------------------------------------
  let socket = null;
  let position = new Map(); // worker -> the number of its last event
  let workers = [];
  let failures = 0; // connections in a row that came to nothing
  let lastHeard = 0;
  let retry = 0;
  let wasLive = false;
  let hasSpoken = false; // this connection

  const showConnection = (state, text) => {
    by("connection").dataset.state = state;
    if (by("connection-text").textContent !== text) by("connection-text").textContent = text;
  };
  const advise = (text, link = "", linkText = "") => {
    by("advice").hidden = !text;
    by("advice").textContent = text;
    if (link) {
      const anchor = make("a", linkText);
      anchor.href = link;
      by("advice").append(" ", anchor);
    }
  };
  const showState = (state) => {
    workers = state.workers;
    for (const worker of position.keys()) if (!workers.includes(worker) && !state.outage) position.delete(worker);
    for (const [id, run] of runs) {
      if (!workers.includes(run.worker) && !state.outage) {
        runs.delete(id); // its process is gone, and cannot tell of its end
        isStale = true;
      }
    }
    by("workers").textContent = plural(workers.length, "worker");
    if (state.outage) {
      advise(`Only one worker's events are shown: Redis (REDIS_URL) does not answer. It is tried again every few seconds, and what was missed is made up for. It said: ${state.outage}`);
    } else if (!state.is_shared && state.expected > 1) {
      advise(`This page shows one worker of ${state.expected}. Set REDIS_URL to see all.`);
    } else advise("");
  };
  const take = (message) => {
    const isFirst = !wasLive;
    hasSpoken = true;
    clock = Date.now() - Date.parse(message.now);
    wasLive = true;
    failures = 0;
    showConnection("live", "Live");
    const fresh = message.lines.filter((line) => line.number > (position.get(line.worker) ?? 0));
    for (const line of fresh) {
      position.set(line.worker, line.number);
      follow(line);
      line.words = `${line.what} ${line.name} ${line.agent ?? ""} ${line.key ?? ""} ${line.request_id ?? ""} ${line.run_id ?? ""}`.toLowerCase();
      if (line.agent && !agents.has(line.agent) && agents.size < MOST_ROWS) {
        agents.add(line.agent);
        const option = document.createElement("option");
        option.value = line.agent;
        by("agents").append(option);
      }
    }
    showState(message.state);
    if (message.missed) fresh.unshift({ gap: `${plural(message.missed, "event")} went by unseen: more happened than this page could be told.` });
    if (fresh.length) {
      fresh.sort((one, other) => (one.gap ? -1 : other.gap ? 1 : one.at < other.at ? -1 : one.at > other.at ? 1 : 0));
      add(fresh, isFirst);
    }
  };

  const connect = () => {
    clearTimeout(retry);
    showConnection("connecting", wasLive ? "Reconnecting…" : "Connecting…");
    const since = [...position].map(([worker, number]) => `${worker}:${number}`).join(",");
    const address = new URL(page.dataset.feed, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    if (since) address.searchParams.set("since", since);
    const mine = new WebSocket(address);
    socket = mine;
    hasSpoken = false;
    lastHeard = Date.now();
    mine.addEventListener("message", (event) => {
      if (mine !== socket) return;
      lastHeard = Date.now();
      take(JSON.parse(event.data));
    });
    mine.addEventListener("close", (event) => {
      if (mine === socket) closed(event.code);
    });
  };
  const closed = (code) => {
    socket = null;
    if (code === 4401) {
      showConnection("ended", "Ended");
      advise("Your session has ended.", page.dataset.login, "Log in again");
      return;
    }
    if (code === 4403) {
      showConnection("ended", "Ended");
      advise("You may not watch any more: this page needs the permission to view runs.");
      return;
    }
    failures += 1;
    const wait = code === 4429 ? 30 : Math.min(15, 0.5 * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
    if (code === 4429) advise("Too many live pages are open on this worker. Close one; this page tries again by itself.");
    else if (failures === 3) {
      advise("The gateway cannot be reached. If other pages load, the reverse proxy in front does not let WebSockets through: docs/live.md has its settings.");
    }
    showConnection("lost", `Connection lost, again in ${Math.max(1, Math.round(wait))} s`);
    retry = setTimeout(connect, wait * 1000);
  };
  const connectNow = () => {
    if (!socket && by("connection").dataset.state === "lost") connect();
  };
  addEventListener("online", connectNow);
  document.addEventListener("visibilitychange", () => document.hidden || connectNow());
  setInterval(() => {
    const patience = hasSpoken ? SILENCE : Math.min(SILENCE, FIRST_SILENCE * 2 ** failures);
    if (!socket || Date.now() - lastHeard < patience) return;
    const dead = socket; // its close may take a minute to be noticed
    closed(1006);
    dead.close();
  }, 5000);

  // --- what the operator does -----------------------------------------------------------------------------------------------
  const refilter = () => {
    readFilter();
    showAll();
  };
  for (const chip of [...chips, by("problems")]) {
    chip.addEventListener("click", () => {
      press(chip, !pressed(chip));
      refilter();
    });
  }
  by("agent").addEventListener("input", refilter);
  by("text").addEventListener("input", refilter);
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    unseen = 0;
    showPause();
    if (!isPaused) showAll();
  });
  by("clear").addEventListener("click", () => {
    lines = [];
    unseen = 0;
    showPause();
    showAll();
  });

  readFilter();
  connect();
});
