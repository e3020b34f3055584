// On the form for a new tool, only the fields of the chosen kind are shown. An existing tool keeps its kind.
document.addEventListener("DOMContentLoaded", () => {
  const kind = document.getElementById("id_kind");
  const parts = document.querySelectorAll("fieldset[class*='kind-']");
  if (!kind || !parts.length) return;

  const show = () => parts.forEach((part) => (part.hidden = !part.classList.contains(`kind-${kind.value}`)));
  kind.addEventListener("change", show);
  show();
});
