"use strict";
// The page is whole without this: it adds a filter, a button that opens all findings, and links to one.
(() => {
  const tools = document.querySelector(".tools");
  if (!tools) return;
  const [words, side, button, count] = ["input", "select", "button", "output"].map((tag) => tools.querySelector(tag));
  const findings = [...document.querySelectorAll(".finding")].map((element) => ({
    element,
    details: element.querySelector("details"),
    text: element.textContent.toLowerCase(),
  }));

  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { element, text } of findings) {
      const fits = (!side.value || element.dataset.side === side.value) && wanted.every((word) => text.includes(word));
      element.hidden = !fits;
      shown += fits;
    }
    count.textContent = shown === findings.length ? "" : `${shown} of ${findings.length}`;
  };

  let open = false;
  const openAll = () => {
    open = !open;
    for (const { details } of findings) details.open = open;
    button.textContent = open ? "Close all" : "Open all";
  };

  const follow = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.matches(".finding")) target.querySelector("details").open = true;
  };

  words.addEventListener("input", filter);
  side.addEventListener("change", filter);
  button.addEventListener("click", openAll);
  tools.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", follow);
  tools.hidden = false;
  filter(); // a browser may keep what was typed when the page is loaded again
  follow();
})();
