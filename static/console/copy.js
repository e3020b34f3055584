// Copies a text as a whole. Without a secure context (plain http on another host) there is no clipboard: then the text
// is selected, so that Ctrl-C takes it.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copies]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = "Selected: Ctrl-C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2500);
});
