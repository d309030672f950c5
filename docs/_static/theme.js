// Before anything is drawn: the theme that was chosen on an earlier page.
document.body.dataset.theme = localStorage.getItem("theme") || "auto";
