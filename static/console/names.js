// Gives the theme's fields and buttons the names that those hear who do not see the page, and makes what it lets a mouse do
// a matter of the keyboard too. What has a name already keeps it.
(() => {
  const name = (element, text) => {
    if (text && !element.labels?.length && !element.ariaLabel) element.ariaLabel = text;
  };
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const said = (element) => element?.textContent.replace("*", "").trim() ?? "";
  const rowLabel = (element) => said(element.closest(".field-line, .form-row")?.querySelector("label"));
  const columnLabel = (cell) => said(cell.closest("table").querySelectorAll("thead th")[cell.cellIndex]);

  // What the theme made for the mouse alone: the cross of a dialog, Filters, the menu of the user, the sidebar's switch.
  const MOUSE_ONLY = ":is(a:not([href]), div, span)[x-on\\:click]:not([tabindex], #changelist-filter-close, :has(a[href], input))";
  const FOCUSABLE = ":is(a[href], button, input:not([type=hidden]), select, textarea, [tabindex='0']):not(:disabled)";
  const shown = (element) => element.checkVisibility({ visibilityProperty: true });
  const firstIn = (part) => [...part.querySelectorAll(FOCUSABLE)].find(shown);
  let opener; // of the dialog or the filters: gets the focus back

  const nameAll = () => {
    each(MOUSE_ONLY, (one) => {
      Object.assign(one, { role: "button", tabIndex: 0 });
      const icon = one.matches(".material-symbols-outlined") ? one : one.firstElementChild;
      const names = { close: "Close", dock_to_right: "Sidebar", more_vert: "More", more_horiz: "More actions", visibility: "Show what is typed" };
      if (icon?.matches(".material-symbols-outlined") && said(icon) === said(one)) name(one, names[said(icon)]);
      one.ariaHidden = null;
    });
    each(".material-symbols-outlined:not([aria-hidden], [role=button])", (icon) => { icon.ariaHidden = "true"; }); // read out, its name would be noise
    each("#searchbar", (field) => name(field, field.placeholder));
    each("#searchbar-submit", (button) => name(button, "Search"));
    each(".vDateField", (field) => name(field, `${rowLabel(field)}, date`));
    each(".vTimeField", (field) => name(field, `${rowLabel(field)}, time`));
    each("td :is(input:not([type=hidden]), select, textarea)", (field) => name(field, columnLabel(field.closest("td"))));
    each(".select2-search__field", (field) => {
      name(field, said(field.closest(".select2-container").previousElementSibling?.labels?.[0]));
    });
    each(".select2-selection, .select2-selection__rendered", (box) => {
      name(box, said(box.closest(".select2-container").previousElementSibling?.labels?.[0]));
    });
    each("#dialog", (dialog) => {
      if (dialog.role !== "dialog") setTimeout(() => (firstIn(dialog.querySelector("#dialog-form") ?? dialog) ?? firstIn(dialog))?.focus(), 100); // it is shown a moment after it came
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
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    const dialog = target.closest("#dialog");
    const inside = target.closest("#dialog, #changelist-filter");
    if (!inside) opener = target;
    if (["Enter", " "].includes(key) && target.matches("[role=button][x-on\\:click], #dialog a[href='#']")) {
      event.preventDefault();
      target.click();
      const filters = document.getElementById("changelist-filter");
      if (filters) setTimeout(() => shown(filters) && firstIn(filters)?.focus(), 100);
    }
    if (dialog && key === "Tab") { // round and round: what lies behind is out of reach
      const all = [...dialog.querySelectorAll(FOCUSABLE)].filter(shown);
      const [last, next] = event.shiftKey ? [all[0], all.at(-1)] : [all.at(-1), all[0]];
      if (target === last) {
        event.preventDefault();
        next.focus();
      }
    }
    setTimeout(() => inside && !shown(inside) && opener?.focus(), 100);
  });
  document.addEventListener("DOMContentLoaded", () => {
    nameAll();
    new MutationObserver(soon).observe(document.body, { childList: true, subtree: true });
  });
})();
