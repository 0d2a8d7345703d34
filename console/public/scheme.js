// Runs before the first paint, so that a light page does not flash dark. The only thing the console ever stores is this one word.
try {
  const scheme = localStorage.getItem("gfe-color-scheme");
  if (scheme === "light") document.documentElement.setAttribute("data-mantine-color-scheme", "light");
} catch {
  // A browser that stores nothing shows the dark page.
}
