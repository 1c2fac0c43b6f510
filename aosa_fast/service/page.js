"use strict";
// Sends a clip to /explain and shows the answer. Names of files and classes are shown as text, whatever they hold. The
// clip stays in the page, so that another class of it can be asked for. The token is in this tab's storage alone, and
// in the header of each request.
(() => {
  const $ = (id) => document.getElementById(id);
  const TOKEN = "aosa-fast token";
  const AGAIN = 5; // seconds, where a busy service does not say when
  let clip = null; // { files, body, headers, stem }
  let running = null; // the AbortController of what is asked
  let due = 0; // when a busy service is asked again
  let limits = {};

  function element(tag, properties = {}, ...content) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...content);
    return made;
  }

  const isolated = (text) => element("bdi", {}, text);
  const figure = (value) => (Number.isFinite(value) ? value.toFixed(3) : "unknown");
  const total = (files) => files.reduce((sum, file) => sum + file.size, 0);
  const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

  function duration(seconds) {
    if (seconds >= 1) return `${seconds.toFixed(2)} s`;
    return `${(1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  }

  // Addresses of files that the page holds: those of what is no longer shown are given back.
  function holder() {
    const held = [];
    return {
      add: (blob) => held[held.push(URL.createObjectURL(blob)) - 1],
      clear: () => held.splice(0).forEach((one) => URL.revokeObjectURL(one)),
    };
  }

  function say(text, isError = false) {
    $("said").textContent = isError ? "" : text;
    $("error").textContent = isError ? text : "";
  }

  // Requests.

  async function reason(response) {
    const text = await response.text();
    try {
      return String(JSON.parse(text).error);
    } catch {
      return `The service answered ${response.status} ${response.statusText}`.trim();
    }
  }

  async function pause(seconds, signal) {
    due = performance.now() + 1000 * seconds;
    try {
      await new Promise((done, fail) => {
        const timer = setTimeout(done, 1000 * seconds);
        signal.addEventListener("abort", () => fail(signal.reason, clearTimeout(timer)));
      });
    } finally {
      due = 0;
    }
  }

  async function request(path, options) {
    try {
      return await fetch(path, { ...options, cache: "no-store", credentials: "omit" });
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // which is what a browser says of any connection
      throw new Error("The connection broke off: the service has stopped, or takes no more of this clip");
    }
  }

  async function send(path, options = {}, isPatient = false) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { Accept: "application/json", ...options.headers };
    if (token) headers.Authorization = `Bearer ${token}`;
    const response = await request(path, { ...options, headers });
    if (response.ok) return response.json();
    const text = await reason(response);
    if (response.status === 401) throw askToken(token, text);
    if (response.status !== 503 || !isPatient) throw new Error(text);
    const seconds = Math.ceil(Number(response.headers.get("Retry-After"))) || AGAIN;
    say(`${text}. It is asked again in ${seconds} s.`);
    await pause(seconds, options.signal);
    say("It is asked again.");
    return send(path, options);
  }

  // One thing is asked at a time: a newer one takes the place of the older, whose connection is closed.
  async function explain() {
    running?.abort();
    const own = (running = new AbortController());
    const asked = clip;
    const start = performance.now();
    const tick = () => {
      const now = performance.now();
      $("clock").textContent = due ? `in ${Math.ceil((due - now) / 1000)} s` : `${((now - start) / 1000).toFixed(1)} s`;
    };
    const timer = setInterval(tick, 100);
    tick();
    say("The clip is being explained.");
    $("running").hidden = false;
    $("result").setAttribute("aria-busy", "true");
    try {
      await check(asked.files);
      const query = new URLSearchParams({ target: $("target").value, result: "json", include: "png,mp4,npz" });
      const { body, headers } = asked;
      const answer = await send(`/explain?${query}`, { method: "POST", body, headers, signal: own.signal }, true);
      const passed = (performance.now() - start) / 1000;
      show(answer, asked.stem, passed);
      say(`Explained in ${duration(passed)}.`);
    } catch (error) {
      if (running === own) say(own.signal.aborted ? "Cancelled." : error.message, !own.signal.aborted);
    } finally {
      clearInterval(timer);
      if (running === own) {
        running = null;
        if (document.activeElement === $("cancel")) $("go").focus();
        $("running").hidden = true;
        $("result").removeAttribute("aria-busy");
      }
    }
  }

  async function check(files) {
    if (total(files) > 1e6 * limits.megabytes) {
      throw new Error(`The clip must have at most ${limits.megabytes} MB; it has ${size(total(files))}`);
    }
    for (const file of files) {
      await file.slice(0, 1).arrayBuffer().catch(() => {
        throw new Error(`${file.name} cannot be read: it is a folder, or has changed since`);
      });
    }
  }

  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    explain();
  });
  $("cancel").addEventListener("click", () => running?.abort());
  addEventListener("keydown", ({ key }) => key === "Escape" && running?.abort());

  // The model, and the token.

  async function learn() {
    try {
      const about = await send("/about");
      limits = about.limits ?? {};
      $("model").textContent = about.model;
      $("about").textContent = `What does it look at in ${about.frames} frames of ${about.size.join(" × ")} pixels?`;
      // Where their names are not known, their number may be.
      const names = Number.isInteger(about.classes) ? [...Array(about.classes).keys()] : (about.classes ?? []);
      const options = names.map((text, value) => element("option", { value }, text));
      $("target").replaceChildren($("target").options[0], ...options);
      $("program").hidden = false;
      const sign = sessionStorage.getItem(TOKEN) ? ' -H "Authorization: Bearer $AOSA_TOKEN"' : "";
      $("command").textContent = `curl -F clip=@clip.mp4${sign} "${location.origin}/explain?result=mp4" -o map.mp4`;
      if (!running) say("");
    } catch (error) {
      say(error.message, true);
    }
  }

  // The field says enough, but for a token that is not the right one.
  function askToken(given, text) {
    sessionStorage.removeItem(TOKEN);
    $("access").hidden = false;
    $("token").value = "";
    $("token").setAttribute("aria-invalid", String(given !== null));
    $("token").focus();
    return new Error(given === null ? "" : text);
  }

  $("access").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, $("token").value);
    $("access").hidden = true;
    say("");
    learn();
    if (clip) explain();
  });

  // The clip.

  const collator = new Intl.Collator("en", { numeric: true });
  const isPicture = (file) => file.type.startsWith("image/");
  const isAnimation = (file) => /gif|webp|avif|apng/.test(file.type);
  const looked = holder();

  function take(list) {
    const files = [...list].sort((one, other) => collator.compare(one.name, other.name));
    if (!files.length) return;
    const frames = files.every(isPicture) && (files.length > 1 || !isAnimation(files[0]));
    if (files.length > 1 && !frames) {
      say(`Drop one clip, or several pictures as frames; got ${files.length} files that are not all pictures`, true);
      return;
    }
    clip = { files, ...(frames ? form(files) : raw(files[0])) };
    preview(files, frames);
    $("go").disabled = false;
    $("target").value = "pred";
    say("");
    if ($("soon").checked) explain();
  }

  function raw(file) {
    const isArray = /\.npy$/i.test(file.name);
    const kind = isArray ? "application/x-npy" : file.type || "application/octet-stream";
    return { body: file, headers: { "Content-Type": kind }, stem: file.name.replace(/\.[^.]*$/, "") };
  }

  function form(files) {
    const body = new FormData();
    files.forEach((file) => body.append("frames", file));
    return { body, headers: {}, stem: "frames" };
  }

  function preview(files, frames) {
    const [box, caption] = $("preview").children;
    looked.clear();
    if (isPicture(files[0])) {
      box.replaceChildren(...files.slice(0, 8).map((file) => element("img", { src: looked.add(file), alt: "" })));
    } else {
      const video = element("video", { src: looked.add(files[0]), muted: true, controls: true, playsInline: true });
      video.setAttribute("aria-label", "The clip");
      video.addEventListener("error", () => video.replaceWith("This browser has no preview of it."));
      box.replaceChildren(video);
    }
    const many = `${files.length} pictures, in the order of their names`;
    caption.replaceChildren(frames && files.length > 1 ? many : isolated(files[0].name), `, ${size(total(files))}`);
    $("preview").hidden = false;
  }

  $("files").addEventListener("change", () => {
    take($("files").files);
    $("files").value = ""; // so that the same file can be chosen again
  });
  // Anywhere on the page: where nobody takes it, a browser shows the file in place of the page.
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.toggle("over", kind === "dragenter" || kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files);
    });
  }

  // The answer.

  const shown = holder();

  function bytes(text) {
    return Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  }

  function show({ target, files, seconds, metadata, ...said }, stem, passed) {
    shown.clear();
    const file = (kind, type) => shown.add(new Blob([bytes(files[kind])], { type }));
    const mp4 = file("mp4", "video/mp4");
    const png = file("png", "image/png");
    const npz = file("npz", "application/octet-stream");
    $("why").replaceChildren("Why ", isolated(target.class), "?");
    const prediction = element("b", {}, isolated(said.prediction));
    $("prediction").replaceChildren("The model says ", prediction, `, p = ${figure(said.probability)}.`);
    if (target.index !== said.prediction_index) {
      $("prediction").append(" Of ", element("b", {}, isolated(target.class)), `, p = ${figure(target.probability)}.`);
    }
    $("map").autoplay = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    $("map").src = mp4;
    $("filmstrip").href = $("filmstrip").firstChild.src = png;
    $("top").replaceChildren(...said.top.map((one) => bar(one, one.index === target.index)));
    const link = (end, href, text) => element("a", { href, download: `${stem}-${end}`, className: "button" }, text);
    $("downloads").replaceChildren(
      link("map.mp4", mp4, "Video, mp4"),
      link("filmstrip.png", png, "Filmstrip, png"),
      link("explanation.npz", npz, "Map and tubes, npz"),
    );
    const { total: until, ...stages } = seconds; // the map was there; what comes after it is known here alone
    const times = { ...stages, "painting and sending": passed - until, "in all": passed };
    fill("seconds", Object.entries(times).map(([stage, value]) => [stage, duration(value)]));
    fill("facts", facts(metadata));
    $("metadata").textContent = JSON.stringify(metadata, null, 1);
    $("first").hidden = true;
    $("answer").hidden = $("more").hidden = false;
    $("answer").scrollIntoView({ block: "nearest" });
  }

  function bar(one, explained) {
    const button = element("button", { type: "button", title: "Explain this class" }, isolated(one.class));
    button.setAttribute("aria-pressed", String(explained));
    button.addEventListener("click", () => {
      $("target").value = one.index;
      explain();
    });
    const part = element("span", { className: "bar" });
    part.style.setProperty("--part", one.probability); // which the policy allows a script, and no attribute
    return element("li", {}, button, element("span", { className: "figure" }, figure(one.probability)), part);
  }

  function facts({ config = {}, shape = {}, source = {}, versions = {} }) {
    const times = source.frame_times ?? [];
    return [
      ["method", config.method],
      ["frames", shape.T && `${shape.T} of ${source.total_frames ?? "unknown"}`],
      ["seen", times.length ? `${times[0].toFixed(2)} s to ${times.at(-1).toFixed(2)} s` : null],
      ["pixels of the map", shape.W && `${shape.W} × ${shape.H}`],
      ["damaged packets", source.damaged_packets],
      ["aosa_fast", versions.aosa_fast],
    ].filter(([, value]) => (value ?? null) !== null);
  }

  function fill(id, pairs) {
    const row = ([term, value]) => element("div", {}, element("dt", {}, term), element("dd", {}, String(value)));
    $(id).replaceChildren(...pairs.map(row));
  }

  learn();
})();
