// Lays the second picture of a pair over the first; a slider moves the border between them.
for (const box of document.querySelectorAll(".before-after")) {
  const frame = box.querySelector("img").parentElement;
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: 0, max: 100, value: 50 });
  const label = document.createElement("label");
  label.append("Border between degraded (left) and restored (right)", slider);
  const move = () => {
    frame.style.setProperty("--border", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} % degraded, ${100 - slider.value} % restored`);
  };
  slider.addEventListener("input", move);
  frame.classList.add("laid-over");
  frame.after(label);
  move();
}
