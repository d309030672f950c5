// What lies under the pointer, at once: browsers show an SVG's own titles only after a while.
for (const chart of document.querySelectorAll("[data-chart]")) {
  const plot = chart.querySelector(".chart-plot");
  const tip = chart.querySelector(".chart-tip");
  if (!plot) continue;
  // The native title would come a second later, over this one.
  for (const slot of plot.querySelectorAll(".chart-slot")) {
    slot.dataset.tip = slot.textContent;
    slot.replaceChildren();
  }
  plot.addEventListener("pointermove", (event) => {
    const slot = event.target.closest(".chart-slot");
    if (!slot) return;
    tip.textContent = slot.dataset.tip;
    tip.hidden = false;
    const frame = tip.parentElement.getBoundingClientRect();
    const left = event.clientX - frame.left + 12;
    tip.style.left = `${Math.max(0, Math.min(left, frame.width - tip.offsetWidth))}px`;
  });
  plot.addEventListener("pointerleave", () => { tip.hidden = true; });
}
