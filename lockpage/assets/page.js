// Keeps the page as the server draws it. What comes is HTML of the server's own making, in which all that is from elsewhere is
// escaped; and the policy of the page runs no script in it.
"use strict";

const trusted = window.trustedTypes
  ? trustedTypes.createPolicy("lockpage", { createHTML: (text) => text })
  : { createHTML: (text) => text };

const page = document.documentElement;
const state = document.getElementById("state");
const time = document.getElementById("time");
const pause = document.getElementById("pause");
const say = document.getElementById("say");

const patience = 12000; // is how long the server may say nothing: it says something every 5 seconds at least
const first = 4000; // until the first message that the page gets at all
const broken = 3000; // after a stream has ended

let source = null;
let paused = false;
let retry = 0;
let watch = 0; // ends when nothing has come for too long
let single = false; // answers, in place of a stream
let heard = false; // anything, on any stream
let ended = false; // has the stream, and the browser tries again

// morph makes the children of an element like those of another one, and leaves alone what is so already: the focus, what is
// selected, what is scrolled and what is open stay.
function morph(to, from) {
  const have = Array.from(to.childNodes);
  const want = Array.from(from.childNodes);
  want.forEach((w, i) => {
    const h = have[i];
    if (!h) {
      to.appendChild(w);
    } else if (h.nodeType !== w.nodeType || h.nodeName !== w.nodeName) {
      to.replaceChild(w, h);
    } else if (h.nodeType !== Node.ELEMENT_NODE) {
      if (h.nodeValue !== w.nodeValue) h.nodeValue = w.nodeValue;
    } else {
      attributes(h, w);
      morph(h, w);
    }
  });
  have.slice(want.length).forEach((h) => h.remove());
}

function attributes(to, from) {
  for (const a of Array.from(to.attributes)) {
    if (!from.hasAttribute(a.name) && !(a.name === "open" && to.nodeName === "DETAILS")) to.removeAttribute(a.name);
  }
  for (const a of Array.from(from.attributes)) {
    if (to.getAttribute(a.name) !== a.value) to.setAttribute(a.name, a.value);
  }
}

function show(frame) {
  for (const [id, html] of Object.entries(frame.parts)) {
    const part = document.getElementById(id);
    if (!part) continue;
    const t = document.createElement("template");
    t.innerHTML = trusted.createHTML(html);
    morph(part, t.content);
  }
  time.textContent = frame.time;
  announce();
}

// announce tells a screen reader when it becomes better or worse, and not each figure.
let told = 0;
function announce() {
  const text = Array.from(document.querySelectorAll("[data-say]"), (e) => e.dataset.say).join("; ");
  if (text === say.textContent || Date.now() - told < 4000) return;
  told = Date.now();
  say.textContent = text;
}

function label(text, name) {
  state.textContent = text;
  page.classList.toggle("is-live", name === "live");
  page.classList.toggle("is-off", name === "off");
}

function open() {
  if (source || paused || document.hidden) return;
  clearTimeout(retry);
  source = new EventSource(single ? "?events&single" : "?events");
  source.onmessage = (e) => {
    hear();
    show(JSON.parse(e.data));
  };
  source.addEventListener("alive", hear);
  source.addEventListener("reload", () => location.reload());
  source.addEventListener("bye", () => again());
  source.onerror = () => {
    if (source && source.readyState === EventSource.CLOSED) again();
    else if (!ended) expect(broken);
    ended = true;
  };
  ended = false;
  expect(heard ? patience : first);
}

// hear is for each sign of life.
function hear() {
  heard = true;
  ended = false;
  expect(patience);
  label("live", "live");
}

function expect(within) {
  clearTimeout(watch);
  watch = setTimeout(lost, within);
}

// lost says that no answer comes, and begins anew: a program that hangs ends no stream. Where none has ever brought anything, something on the
// way may keep it back until it ends: then the page asks for single answers.
function lost() {
  if (!heard) single = !single;
  close();
  off();
  open();
}

function off() {
  label("no answer since", "off");
  say.textContent = "no answer from the program";
}

// again tries later, when the browser does not by itself.
function again() {
  close();
  off();
  retry = setTimeout(open, 2000);
}

function close() {
  clearTimeout(retry);
  clearTimeout(watch);
  if (source) source.close();
  source = null;
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Go on" : "Pause";
  if (paused) {
    close();
    label("paused at", "");
  } else {
    open();
  }
});

// A page that nobody sees costs the program nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) close();
  else open();
});
addEventListener("pagehide", close);
addEventListener("pageshow", open);
open();
