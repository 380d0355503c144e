// Light or dark: what the system prefers, unless a person chose here. Runs before the page is drawn.
(() => {
  const root = document.documentElement;
  const key = "labelfix-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => { try { return localStorage.getItem(key); } catch { return null; } };
  const keep = (theme) => { try { localStorage.setItem(key, theme); } catch { /* not allowed */ } };
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const name = () => {
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.textContent = isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colors`);
      button.hidden = false;
    }
  };
  root.classList.add("js");
  if (["light", "dark"].includes(kept())) root.dataset.theme = kept();
  system.addEventListener("change", name);
  document.addEventListener("DOMContentLoaded", name);
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-switch]")) return;
    root.dataset.theme = isDark() ? "light" : "dark";
    keep(root.dataset.theme);
    name();
  });
})();
