/* Small help on the catalog's pages; each of them works without it.
   [data-suggest=URL]: offers models as one types. [data-check-all]: all of a form's boxes at once.
   [data-busy=WORDS]: a form says that it is at work, and is sent once. */
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

  document.addEventListener("DOMContentLoaded", () => {
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
