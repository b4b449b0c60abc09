// Looks at the page again every few seconds and puts what has changed in place of what was, so that
// focus, scrolling and what was unfolded stay. Without it the page reloads itself.
"use strict";

const HIDDEN_S = 60; // a page nobody looks at asks this seldom
let late = null; // when the server was last heard of, once it does not answer

function said(text) {
  const place = document.getElementById("unreachable");
  if (place.textContent !== text) place.textContent = text;
  place.hidden = text === "";
}

function isInUse(part) {
  const chosen = document.getSelection();
  if (chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode)) return true;
  return part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");
}

// How to find the element again that has the focus.
function addressOf(part) {
  const focused = document.activeElement;
  if (!focused || !part.contains(focused)) return null;
  const alike = [...part.querySelectorAll(focused.localName)];
  const key = focused.getAttribute("href") || focused.id;
  return { name: focused.localName, key, place: alike.indexOf(focused) };
}

function focusAgain(part, address) {
  const alike = [...part.querySelectorAll(address.name)];
  const same = alike.find((one) => (one.getAttribute("href") || one.id) === address.key);
  const found = same || alike[Math.min(address.place, alike.length - 1)];
  if (found) found.focus({ preventScroll: true });
}

function swap(old, fresh) {
  const address = addressOf(old);
  const open = new Set([...old.querySelectorAll("details[open]")].map((one) => one.id));
  const scrolled = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  for (const one of fresh.querySelectorAll("details")) one.open = open.has(one.id);
  old.replaceWith(fresh);
  fresh.querySelectorAll(".scroll").forEach((one, place) => { one.scrollLeft = scrolled[place] || 0; });
  if (address) focusAgain(fresh, address);
}

function take(text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(old.id);
    if (!fresh || isInUse(old)) continue;
    for (const one of fresh.querySelectorAll("details")) {
      const same = document.getElementById(one.id);
      if (same) one.open = same.open;
    }
    if (!fresh.isEqualNode(old)) swap(old, document.adoptNode(fresh));
  }
}

async function look() {
  try {
    const answer = await fetch(location.href, { cache: "no-store", redirect: "error" });
    if (answer.status === 401 || answer.status === 403) {
      said("You may no longer read this page. Reload it to sign in.");
      return;
    }
    const text = await answer.text();
    if (!answer.ok) throw new Error(answer.statusText);
    take(text);
    late = null;
    said("");
  } catch {
    late = late || new Date();
    said(`The server has not answered since ${late.toLocaleTimeString()}. What is shown is from before then.`);
  }
}

const everyS = Number(document.body.dataset.reloadS);
if (everyS > 0) {
  let elapsed = 0;
  const tick = async () => {
    elapsed += everyS;
    if (!document.hidden || elapsed >= HIDDEN_S) {
      elapsed = 0;
      await look();
    }
    setTimeout(tick, everyS * 1000);
  };
  setTimeout(tick, everyS * 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
}
