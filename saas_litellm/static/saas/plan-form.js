// The form of a plan version: rows that come and go, fields that fit the choice, prices while typing.
// Without this file all fields show, "More rows" adds some, and "Preview" prices them.
const form = document.querySelector("[data-plan-form]");
const previewed = form.querySelector("[data-previewed]");

function fit(row) {
  const choice = row.querySelector("select[name$=-kind]");
  if (!choice) return;
  for (const cell of row.querySelectorAll("[data-kinds]")) {
    cell.hidden = !cell.dataset.kinds.split(" ").includes(choice.value);
  }
}

function isBlank(row) {
  const choice = row.querySelector("select[name$=-kind]");
  const typed = [...row.querySelectorAll("input:not([type=hidden], [type=checkbox])")];
  return !choice?.value && typed.every((input) => !input.value) && !row.querySelector("[role=alert]");
}

function add(rows, adder) {
  const total = rows.querySelector(":scope > input[name$=-TOTAL_FORMS]");
  const template = rows.querySelector(":scope > template");
  const list = rows.querySelector(":scope > [data-list]");
  list.insertAdjacentHTML("beforeend", template.innerHTML.replaceAll(adder.dataset.add, total.value));
  total.value = Number(total.value) + 1;
  const row = list.lastElementChild;
  prepare(row);
  return row;
}

function remove(row) {
  const box = row.querySelector("input[name$=-DELETE]");
  if (box) {
    box.checked = true;
    row.hidden = true;
  } else {
    // A tier has no box: an empty one is none.
    for (const input of row.querySelectorAll("input:not([type=hidden])")) input.value = "";
    row.hidden = true;
  }
  changed();
}

function prepare(root) {
  for (const row of [root, ...root.querySelectorAll("[data-row]")]) {
    if (!row.matches("[data-row]")) continue;
    fit(row);
    row.querySelector(":scope > [data-remove], :scope > .remove > [data-remove]").hidden = false;
    row.querySelector("[data-remove-box]")?.setAttribute("hidden", "");
  }
  for (const adder of root.querySelectorAll("[data-add]")) adder.hidden = false;
}

let waiting;
let asked = 0;
function changed() {
  clearTimeout(waiting);
  waiting = setTimeout(price, 350);
}

async function price() {
  const turn = ++asked;
  previewed.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(form.dataset.preview, { method: "POST", body: new FormData(form) });
    const text = await answer.text();
    // A later question may have been answered already.
    if (turn !== asked) return;
    if (answer.ok) previewed.innerHTML = text;
    else previewed.textContent = "No prices just now. Save your draft, or sign in again.";
  } catch {
    if (turn === asked) previewed.textContent = "The server cannot be reached; nothing is lost here.";
  }
  if (turn === asked) previewed.removeAttribute("aria-busy");
}

form.addEventListener("input", (event) => {
  const row = event.target.closest("[data-row]");
  if (row) fit(row.closest(".rule") ?? row);
  changed();
});
form.addEventListener("click", (event) => {
  const adder = event.target.closest("[data-add]");
  const remover = event.target.closest("[data-remove]");
  if (adder) add(adder.closest("[data-rows]"), adder).querySelector("input, select").focus();
  if (remover) remove(remover.closest("[data-row]"));
});
for (const row of form.querySelectorAll(".rule, .tier")) if (isBlank(row)) row.remove();
prepare(form);
for (const plain of form.querySelectorAll("[data-plain], button[name=preview]")) plain.hidden = true;
// What was typed before this file came, or stands here again after the browser's Back.
if ([...form.elements].some((field) => "defaultValue" in field && field.value !== field.defaultValue)) changed();
