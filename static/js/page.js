// Keeps #live up to date in place, and copies commands.
(() => {
  "use strict";

  const live = document.getElementById("live");
  if (live) {
    const interval = Number(live.dataset.refreshSeconds) * 1000;
    const stale = document.getElementById("stale");
    let timer;

    const selecting = () => {
      const selection = getSelection();
      return !selection.isCollapsed && live.contains(selection.anchorNode);
    };
    // A hidden tab asks for nothing; it asks once as soon as it is looked at again.
    const refresh = () => {
      if (document.visibilityState === "visible" && !selecting()) htmx.trigger(live, "refresh");
    };
    const schedule = () => {
      clearInterval(timer);
      timer = setInterval(refresh, interval);
    };
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") {
        refresh();
        schedule();
      }
    });
    schedule();

    // htmx puts the focus back by id. What else a swap would lose: how far tables are scrolled, and which details are open.
    let scrolled, opened;
    document.body.addEventListener("htmx:beforeSwap", () => {
      scrolled = [...document.querySelectorAll(".table-scroll[id]")].map((element) => [element.id, element.scrollLeft]);
      opened = [...document.querySelectorAll("details[id][open]")].map((element) => element.id);
    });
    document.body.addEventListener("htmx:afterSwap", () => {
      for (const [id, left] of scrolled) {
        const element = document.getElementById(id);
        if (element) element.scrollLeft = left;
      }
      for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
      stale.hidden = true;
    });
    for (const failure of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
      document.body.addEventListener(failure, () => {
        stale.hidden = false;
      });
    }
  }

  const copy = async (text, element) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    getSelection().selectAllChildren(element); // without https there is no clipboard object
    if (!document.execCommand("copy")) throw new Error("not allowed");
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("button[data-copy]");
    if (!button) return;
    const element = document.getElementById(button.dataset.copy);
    try {
      await copy(element.textContent.trim(), element);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(element);
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => {
      button.textContent = "Copy";
    }, 2000);
  });
  // Without this script there are no buttons that do nothing.
  document.documentElement.classList.add("js");
})();
