// The chat box on a declared agent's page: sends the conversation, shows what comes as it comes.
document.addEventListener("DOMContentLoaded", () => {
  const box = document.getElementById("try");
  if (!box) return;
  const log = document.getElementById("try-log");
  const form = document.getElementById("try-form");
  const text = document.getElementById("try-text");
  const send = document.getElementById("try-send");
  const stop = document.getElementById("try-stop");
  const greeting = log.innerHTML;
  let messages = [];
  let running = null;

  const show = (kind, words) => {
    const line = document.createElement("div");
    line.className = `try-${kind}`;
    line.textContent = words;
    log.append(line);
    log.scrollTop = log.scrollHeight;
    return line;
  };

  const busy = (is) => {
    send.hidden = is;
    stop.hidden = !is;
  };

  // What the events of the stream do to the page; apps/console/try_agent.py sends them.
  const reader = () => {
    let answer = null;
    let thought = null;
    let said = "";
    const add = (line, kind, words) => {
      const shown = line ?? show(kind, "");
      shown.textContent += words;
      log.scrollTop = log.scrollHeight;
      return shown;
    };
    return {
      take(event) {
        if (event.kind === "approval") show("agent", event.text);
        if (["text", "refusal", "approval"].includes(event.kind)) said += event.text;
        if (event.kind === "text") answer = add(answer, "agent", event.text);
        else if (event.kind === "refusal") answer = add(answer, "error", event.text);
        else if (event.kind === "reasoning") thought = add(thought, "thought", event.text);
        else if (event.kind !== "approval") {
          show(event.kind === "end" ? "note" : event.kind, event.text);
          answer = thought = null; // what comes now is another answer
        }
      },
      said: () => said,
    };
  };

  const ask = async (signal) => {
    const response = await fetch(box.dataset.url, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": box.dataset.csrf },
      body: JSON.stringify({ messages }),
      signal,
    });
    if (!(response.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
      const body = await response.json().catch(() => null);
      show("error", body?.error?.message ?? `The page is out of date (${response.status}): reload it.`);
      return;
    }
    const told = reader();
    const decoder = new TextDecoder();
    let rest = "";
    for (const stream = response.body.getReader(); ; ) {
      const { done, value } = await stream.read();
      rest += decoder.decode(value ?? new Uint8Array(), { stream: !done });
      const frames = rest.split("\n\n");
      rest = frames.pop();
      for (const frame of frames) if (frame.startsWith("data: ")) told.take(JSON.parse(frame.slice(6)));
      if (done) break;
    }
    if (told.said()) messages.push({ role: "assistant", content: told.said() });
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const words = text.value.trim();
    if (!words || running) return;
    text.value = "";
    messages.push({ role: "user", content: words });
    show("person", words);
    running = new AbortController();
    busy(true);
    try {
      await ask(running.signal);
    } catch (error) {
      show("error", error.name === "AbortError" ? "Stopped." : "The connection to the gateway broke off. Try again.");
    } finally {
      running = null;
      busy(false);
      text.focus();
    }
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  stop.addEventListener("click", () => running?.abort());
  document.getElementById("try-again").addEventListener("click", () => {
    running?.abort();
    messages = [];
    log.innerHTML = greeting;
    text.focus();
  });
});
