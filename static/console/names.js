// Gives the theme's fields and buttons the names that those hear who do not see the page. What has one already keeps it.
(() => {
  const name = (element, text) => {
    if (text && !element.labels?.length && !element.ariaLabel) element.ariaLabel = text;
  };
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const said = (element) => element?.textContent.replace("*", "").trim() ?? "";
  const rowLabel = (element) => said(element.closest(".field-line, .form-row")?.querySelector("label"));
  const columnLabel = (cell) => said(cell.closest("table").querySelectorAll("thead th")[cell.cellIndex]);

  const nameAll = () => {
    each(".material-symbols-outlined:not([aria-hidden])", (icon) => { icon.ariaHidden = "true"; }); // read out, its name would be noise
    each("#searchbar", (field) => name(field, field.placeholder));
    each("#searchbar-submit", (button) => name(button, "Search"));
    each(".vDateField", (field) => name(field, `${rowLabel(field)}, date`));
    each(".vTimeField", (field) => name(field, `${rowLabel(field)}, time`));
    each("td :is(input:not([type=hidden]), select, textarea)", (field) => name(field, columnLabel(field.closest("td"))));
    each(".select2-search__field", (field) => {
      name(field, said(field.closest(".select2-container").previousElementSibling?.labels?.[0]));
    });
    each("#dialog", (dialog) => {
      dialog.role = "dialog";
      dialog.ariaModal = "true";
      name(dialog, said(dialog.querySelector("h1")));
    });
    each("a[href='#'], button", (button) => {
      if ([...button.children].every((one) => one.matches(".material-symbols-outlined")) && !said(button).includes(" ")) {
        const icon = said(button.firstElementChild);
        name(button, { more_horiz: "More actions", more_vert: "More", chevron_left: "Back", close: "Close" }[icon]);
      }
    });
  };
  // Scripts make fields and fetch parts of the page at any time; pages that change all the time cost little for it.
  let due = 0;
  const soon = () => {
    due ||= setTimeout(() => {
      due = 0;
      nameAll();
    }, 100);
  };
  document.addEventListener("DOMContentLoaded", () => {
    nameAll();
    new MutationObserver(soon).observe(document.body, { childList: true, subtree: true });
  });
})();
