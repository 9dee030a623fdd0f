// Runs before the first paint, so that a chosen theme does not flash in the system's colours.
try {
  document.documentElement.dataset.theme = JSON.parse(localStorage.getItem("chat.theme")) ?? "system";
} catch {
  document.documentElement.dataset.theme = "system";
}
