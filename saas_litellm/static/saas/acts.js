// Forms of acts: opened as a dialog where a page would do as well, sent once, secrets copied.
// Events are caught on the document: what comes into the page later needs nothing of its own.
const plain = (event) => event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);

let isOpening = false; // A second click while the form comes opens no second dialog.

document.addEventListener("click", async (event) => {
  const opener = event.target.closest("a[data-dialog]");
  if (opener && plain(event)) {
    event.preventDefault();
    if (isOpening || document.querySelector("dialog.act-dialog")) return;
    isOpening = true;
    const opened = await openDialog(opener.href).catch(() => false);
    isOpening = false;
    if (!opened) window.location.assign(opener.href);
    return;
  }
  const closer = event.target.closest("dialog.act-dialog [data-close]");
  if (closer) {
    event.preventDefault();
    closer.closest("dialog").close();
  }
  const copier = event.target.closest("[data-copy]");
  if (copier) await copy(copier);
});

// Its form is an ordinary one: it is sent to its own page, which answers with an error or leads back.
async function openDialog(address) {
  const answer = await fetch(address, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) return false;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const act = page.querySelector("[data-act]");
  if (!act) return false;
  const dialog = document.createElement("dialog");
  dialog.className = "act-dialog";
  const title = document.createElement("h2");
  title.id = "act-title";
  title.textContent = act.dataset.act;
  dialog.setAttribute("aria-labelledby", title.id);
  act.prepend(title);
  dialog.append(document.importNode(act, true));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  dialog.querySelector("input:not([type=hidden]), select, textarea, button")?.focus();
  return true;
}

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-once]");
  if (!form) return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
});
// Back to a page that the browser kept: its form may be sent again, and its key says what is new.
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

async function copy(button) {
  const said = button.parentElement.querySelector("[data-copied]");
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    said.textContent = "Copied.";
  } catch {
    said.textContent = "The browser did not allow it: select the text and copy it.";
  }
}
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
});
