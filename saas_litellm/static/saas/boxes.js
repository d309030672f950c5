/* select2's boxes get the names of the fields they stand for: a screen reader says them. */
"use strict";
(() => {
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
  // select2 makes its boxes some time after the page is there, and a new row brings new ones: each
  // is named before anything is drawn.
  window.addEventListener("load", nameBoxes);
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver((seen) => {
      if (seen.some(({ addedNodes }) => [...addedNodes].some(isBox))) nameBoxes();
    }).observe(document.body, { childList: true, subtree: true });
  });
})();
