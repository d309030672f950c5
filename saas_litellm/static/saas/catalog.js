/* Small help on the catalog's pages; each of them works without it.
   [data-suggest=URL]: offers models as one types. [data-check-all]: all of a form's boxes at once.
   [data-busy=WORDS]: a form says that it is at work, and is sent once.
   select2's boxes get the names of the fields they stand for. */
"use strict";
(() => {
  let waiting = 0, asked = "";

  async function suggest(input) {
    const list = document.getElementById(input.getAttribute("list"));
    const text = input.value.trim();
    if (!list || text.length < 2 || text === asked) return;
    asked = text;
    const answer = await fetch(`${input.dataset.suggest}?q=${encodeURIComponent(text)}`);
    if (!answer.ok || text !== input.value.trim()) return;
    const { models } = await answer.json();
    list.replaceChildren(...models.map(({ model, price }) => {
      const option = document.createElement("option");
      option.value = model;
      option.label = price;
      return option;
    }));
  }

  document.addEventListener("input", (event) => {
    if (!event.target.matches("input[data-suggest]")) return;
    clearTimeout(waiting);
    waiting = setTimeout(suggest, 200, event.target);
  });

  document.addEventListener("submit", (event) => {
    const words = event.target.dataset.busy;
    if (!words) return;
    if (event.target.dataset.sent) { event.preventDefault(); return; }
    event.target.dataset.sent = "1";
    const button = event.submitter;
    // A disabled button would not be sent with its form.
    if (button) setTimeout(() => { button.textContent = words; button.disabled = true; });
  });
  // Back from the next page: the form may be sent again.
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  function isBox(node) {
    return node.nodeType === Node.ELEMENT_NODE && (node.matches("[class*=select2-]") || node.querySelector(".select2-container"));
  }

  function nameBoxes() {
    for (const select of document.querySelectorAll("select.select2-hidden-accessible")) {
      const label = document.querySelector(`label[for="${select.id}"]`);
      const box = select.parentElement.querySelector(".select2-container");
      if (!box) continue;
      const name = label ? label.textContent.replace("*", "").trim() : select.name;
      for (const part of box.querySelectorAll("[role=combobox], [role=textbox], input[type=search]")) {
        part.removeAttribute("aria-labelledby");
        part.setAttribute("aria-label", name);
      }
    }
  }
  // select2 makes its boxes some time after the page is there, and a new row brings new ones.
  let naming = 0;
  function nameSoon() {
    clearTimeout(naming);
    naming = setTimeout(nameBoxes, 50);
  }
  window.addEventListener("load", nameSoon);

  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver((seen) => {
      if (seen.some(({ addedNodes }) => [...addedNodes].some(isBox))) nameSoon();
    }).observe(document.body, { childList: true, subtree: true });
    for (const label of document.querySelectorAll("[data-check-all]")) {
      const boxes = [...label.closest("form").querySelectorAll("input[name=chosen]")];
      label.hidden = boxes.length < 2;
      label.querySelector("input").checked = boxes.every((box) => box.checked);
      label.querySelector("input").addEventListener("change", (event) => {
        for (const box of boxes) box.checked = event.target.checked;
      });
    }
  });
})();
