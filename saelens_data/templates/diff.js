"use strict";
// The page is whole without this: it adds search, filters, sorting, a button that opens all, and links to one finding.
(() => {
  const split = (text) => text.split(/\s+/).filter(Boolean);

  const read = (element) => ({
    element,
    details: element.querySelector("details"),
    label: element.querySelector(".label").textContent.toLowerCase(),
    text: element.textContent.toLowerCase(),
    side: element.dataset.side,
    tags: split(element.dataset.tags),
    rank: Number(element.dataset.rank),
    q: Number(element.dataset.q),
    adjusted: -Number(element.dataset.adjusted),
  });

  const has = (finding, tag) => (tag.startsWith("-") ? !finding.tags.includes(tag.slice(1)) : finding.tags.includes(tag));

  // The findings of one comparison; returns what makes a hidden one seen.
  const enhance = (tools, list) => {
    const [words, button, count] = ["input", "button", "output"].map((tag) => tools.querySelector(tag));
    const { side, tags, sort } = tools.elements;
    const findings = [...list.children].map(read);

    const filter = () => {
      const wanted = split(words.value.toLowerCase());
      const kinds = split(tags ? tags.value : "");
      let shown = 0;
      for (const finding of findings) {
        const fits =
          (!side.value || finding.side === side.value) &&
          kinds.every((tag) => has(finding, tag)) &&
          wanted.every((word) => finding.text.includes(word));
        finding.element.hidden = !fits;
        shown += fits;
      }
      count.textContent = shown === findings.length ? "" : `${shown} of ${findings.length}`;
    };

    const order = () => {
      const by = sort.value;
      const compare = (x, y) => (by === "label" ? x.label.localeCompare(y.label, "en") : x[by] - y[by]) || x.rank - y.rank;
      list.append(...[...findings].sort(compare).map(({ element }) => element));
    };

    const openAll = () => {
      const open = button.textContent === "Open all";
      for (const { details } of findings) details.open = open;
      button.textContent = open ? "Close all" : "Open all";
    };

    const clear = (event) => {
      if (event.key !== "Escape" || !words.value) return;
      words.value = "";
      filter();
    };

    words.addEventListener("input", filter);
    words.addEventListener("keydown", clear);
    for (const select of [side, tags]) select?.addEventListener("change", filter);
    sort.addEventListener("change", order);
    button.addEventListener("click", openAll);
    tools.addEventListener("submit", (event) => event.preventDefault());
    tools.hidden = false;
    order(); // a browser may keep what was chosen and typed when the page is loaded again
    filter();
    return () => {
      tools.reset();
      order();
      filter();
    };
  };

  const lists = new Map();
  for (const tools of document.querySelectorAll(".tools")) {
    const list = tools.parentElement.querySelector(".list");
    lists.set(list, enhance(tools, list));
  }

  const follow = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target || !target.matches(".finding")) return;
    if (target.hidden) lists.get(target.parentElement)();
    target.querySelector("details").open = true;
    target.scrollIntoView();
    target.querySelector("summary").focus({ preventScroll: true });
  };

  const search = (event) => {
    const words = document.querySelector(".tools input");
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!words || event.target.closest("input, select, textarea")) return;
    event.preventDefault();
    words.focus();
    words.select();
  };

  addEventListener("hashchange", follow);
  addEventListener("keydown", search);
  follow();
})();
