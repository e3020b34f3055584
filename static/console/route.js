// Beside each choice of a route, the models that its upstream lists are suggested.
document.addEventListener("DOMContentLoaded", () => {
  const pattern = document.getElementById("id_pattern");
  if (!pattern?.dataset.models) return;
  for (const [upstream, names] of Object.entries(JSON.parse(pattern.dataset.models))) {
    const list = document.createElement("datalist");
    list.id = `models-of-${upstream}`;
    list.append(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
    document.body.append(list);
  }
  document.addEventListener("focusin", ({ target }) => {
    if (!target.name?.match(/^targets-\d+-model$/)) return;
    const upstream = document.getElementsByName(target.name.replace(/model$/, "upstream"))[0];
    target.setAttribute("list", `models-of-${upstream?.value}`);
    target.setAttribute("autocomplete", "off");
  });
});
