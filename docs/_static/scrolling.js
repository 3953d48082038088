// What scrolls in a box of its own can be reached and moved by the keyboard.
const look = () => {
  for (const box of document.querySelectorAll("article pre, article .table-wrapper, article :has(> math)")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("resize", look);
look();
