/* Before anything is painted: says that scripts run, and takes the theme that was chosen last. */
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripted");
  try {
    const theme = localStorage.getItem("nin-multi-theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch { /* a browser may keep nothing for a file; then the system's theme is taken */ }
})();
