// Reloading the page of a new key would send the form again and issue a second one: the address becomes the key's own.
document.addEventListener("DOMContentLoaded", () => {
  history.replaceState(null, "", document.getElementById("key-page").href);
});
