// The form of an alert channel shows what its kind needs.
"use strict";

addEventListener("DOMContentLoaded", () => {
  const kind = document.getElementById("id_kind");
  if (!kind) return;
  const needed = { url: "webhook", new_secret: "webhook", allow_private_hosts: "webhook", recipients: "email" };
  const show = () => {
    for (const [field, of] of Object.entries(needed)) {
      const section = document.getElementById(`id_${field}`)?.closest("fieldset");
      if (section) section.hidden = kind.value !== of;
    }
  };
  kind.addEventListener("change", show);
  show();
});
