// On the form for a new upstream, the kind chooses switches and numbers and suggests the base URL. An existing upstream keeps
// what its operator set.
document.addEventListener("DOMContentLoaded", () => {
  const kind = document.getElementById("id_kind");
  if (!kind?.dataset.presets || !location.pathname.endsWith("/add/")) return;
  const presets = JSON.parse(kind.dataset.presets);
  const urls = JSON.parse(kind.dataset.usualUrls);
  const baseUrl = document.getElementById("id_base_url");
  const slug = document.getElementById("id_slug");
  let suggested = { url: "", slug: "" };

  const suggest = () => {
    for (const [name, value] of Object.entries(presets[kind.value] ?? {})) {
      const field = document.getElementById(`id_${name}`);
      if (field?.type === "checkbox") field.checked = value;
      else if (field) field.value = value;
    }
    const next = { url: urls[kind.value] ?? "", slug: kind.value === "other" ? "" : kind.value.replace("_", "") };
    if (baseUrl.value === suggested.url) baseUrl.value = next.url;
    if (slug.value === suggested.slug) slug.value = next.slug;
    suggested = next;
  };
  kind.addEventListener("change", suggest);
});
