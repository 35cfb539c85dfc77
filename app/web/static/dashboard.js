/* What HTML and htmx do not do by themselves: the live stream, copying, dropping files, the menu on a phone. */
"use strict";

(() => {
  const body = document.body;

  /* One stream a page. An event names a topic; what shows the topic asks for itself anew. */
  const topics = body.dataset.live;
  const moving = document.querySelector("[data-campaign]");
  const told = new WeakMap();
  if (topics && "EventSource" in window) {
    const asked = new URLSearchParams({ topics, ...moving?.dataset });
    const stream = new EventSource("/events?" + asked);
    const tell = (topic) => htmx.trigger(body, "live-" + topic);
    for (const topic of topics.split(" ")) stream.addEventListener(topic, () => tell(topic));
    /* What moves of a campaign comes by itself. */
    stream.addEventListener("part", (event) => {
      told.set(moving, Date.now());
      keep(moving);
      htmx.swap(moving, event.data, { swapStyle: "innerHTML" });
    });
    /* After a gap nothing is known: everything asks. */
    let gap = false;
    stream.addEventListener("error", () => { gap = true; });
    stream.addEventListener("open", () => {
      body.dataset.stream = "open";
      if (gap) topics.split(" ").forEach(tell);
      gap = false;
    });
    window.addEventListener("pagehide", () => stream.close());
  }

  /* A part of the page that is swapped keeps the focus, what is open, and how far it was scrolled: what stands in it is
     known again by what it leads to or is called, and by its place among those that are alike. */
  const FOCUSABLE = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]";
  const nameOf = (element) => JSON.stringify([
    element.tagName, element.id, element.getAttribute("href"), element.form?.getAttribute("action"), element.name,
    element.getAttribute("aria-label"), element.matches("button, summary") && element.textContent,
  ]);
  const within = (part) => {
    const alike = {};
    return [...part.querySelectorAll(FOCUSABLE)].map((element) => {
      const name = nameOf(element);
      alike[name] = (alike[name] ?? 0) + 1;
      return [name + alike[name], element];
    });
  };
  let part = null;
  const before = new Map();
  const keep = (swapped) => {
    part = swapped;
    before.clear();
    for (const [name, element] of within(part)) {
      const { scrollLeft, parentElement: { open } } = element;
      before.set(name, { open, scrollLeft, focused: element === document.activeElement });
    }
  };
  const giveBack = () => {
    for (const [name, element] of within(part)) {
      const { open, scrollLeft, focused } = before.get(name) ?? {};
      if (open) element.parentElement.open = true;
      if (scrollLeft) element.scrollLeft = scrollLeft;
      if (focused) element.focus({ preventScroll: true });
    }
    before.clear();
  };
  body.addEventListener("htmx:beforeSwap", (event) => keep(event.detail.target));
  body.addEventListener("htmx:afterSwap", giveBack);

  /* Who was told a moment ago need not ask because it is time. */
  body.addEventListener("htmx:beforeRequest", (event) => {
    const { elt, requestConfig: { triggeringEvent } } = event.detail;
    if (triggeringEvent?.type.startsWith("live-")) told.set(elt, Date.now());
    else if (!triggeringEvent && Date.now() - told.get(elt) < 7000) event.preventDefault();
  });

  /* Where a session ended while somebody types, what was typed is there again when the page is: in this tab and to this
     account alone. */
  const TYPED = "textarea[id], select[id], input[id]:not([type=password], [type=file], [type=hidden], [readonly])";
  const here = location.pathname + location.search;
  const remember = (name) => {
    const typed = [...document.querySelectorAll(TYPED)].map(({ id, value, checked }) => ({ id, value, checked }));
    sessionStorage.setItem(name, JSON.stringify({ here, typed, account: body.dataset.account }));
  };
  body.addEventListener("htmx:beforeOnLoad", (event) => {
    if (event.detail.xhr.getResponseHeader("HX-Redirect")) remember("typed");
  });
  /* What was posted is remembered until the next page: the entrance, if the session has ended. */
  const posted = sessionStorage.getItem("posted");
  sessionStorage.removeItem("posted");
  if (posted && location.pathname === "/sign-in" && location.search.startsWith("?next=")) {
    sessionStorage.setItem("typed", posted);
  }
  const left = JSON.parse(sessionStorage.getItem("typed"));
  if (left && body.dataset.account) {
    sessionStorage.removeItem("typed");
    const isMine = left.here === here && left.account === body.dataset.account;
    for (const { id, ...typed } of isMine ? left.typed : []) {
      Object.assign(document.getElementById(id) ?? {}, typed);
    }
  }

  /* Who clicks twice wants a thing once. */
  let pressed, at;
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") return;
    if (event.submitter === pressed && event.timeStamp - at < 5000) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    [pressed, at] = [event.submitter, event.timeStamp];
    if (body.dataset.account) remember("posted");
  }, true);
  window.addEventListener("pageshow", () => { pressed = undefined; });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.querySelector(button.dataset.copy);
    const text = source.value ?? source.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    button.textContent = button.dataset.copied;
  });

  /* The menu is open on a wide screen whatever was done on a narrow one. */
  const menu = document.querySelector(".side details");
  if (menu) {
    const wide = matchMedia("(min-width: 48.01rem)");
    const follow = () => { menu.open = wide.matches; };
    wide.addEventListener("change", follow);
    follow();
  }

  /* A file, or a list, with its progress; without this the form posts by itself. */
  const uploads = (form) => {
    const input = form.querySelector("input[type=file]");
    const bar = form.querySelector("progress");
    const zone = form.querySelector(".drop");
    const send = () => {
      const request = new XMLHttpRequest();
      bar.hidden = false;
      request.upload.addEventListener("progress", (event) => { bar.max = event.total; bar.value = event.loaded; });
      request.addEventListener("load", () => {
        if (request.responseURL !== form.action) { location.assign(request.responseURL); return; }
        const page = new DOMParser().parseFromString(request.responseText, "text/html");
        const before = document.querySelector("main"), main = page.querySelector("main");
        before.replaceWith(main);
        /* What was typed into other forms and is not saved yet stays. */
        for (const field of before.querySelectorAll("[name][id]")) {
          const same = document.getElementById(field.id);
          if (!same || form.contains(field)) continue;
          if (field.type === "file") same.files = field.files;
          else Object.assign(same, { value: field.value, checked: field.checked });
        }
        htmx.process(main);
        document.querySelectorAll("form[data-upload]").forEach(uploads);
      });
      request.addEventListener("error", () => form.submit());
      request.open("POST", form.action);
      const fields = new FormData(form);
      request.send(input ? fields : new URLSearchParams(fields));
    };
    form.addEventListener("submit", (event) => { event.preventDefault(); if (bar.hidden) send(); });
    if (!zone) return;
    zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      input.files = event.dataTransfer.files;
    });
  };
  document.querySelectorAll("form[data-upload]").forEach(uploads);
})();
