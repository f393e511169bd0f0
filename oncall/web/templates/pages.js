// Copies commands and IDs, and reloads the parts of a page that change. All else works without.
const REFRESH_MILLISECONDS = 2000;

for (const button of document.querySelectorAll("button.copy")) button.hidden = false;

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const label = button.dataset.label ?? button.textContent;
  button.dataset.label = label;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "copied";
  } catch (error) {
    button.textContent = "not allowed by the browser";
  }
  setTimeout(() => { button.textContent = label; }, REFRESH_MILLISECONDS);
});

async function refresh(part) {
  let problem = "";
  try {
    const response = await fetch(part.dataset.refresh);
    if (response.ok) {
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const next = page.getElementById(part.id);
      // The run has ended: the rest of the page has changed, too.
      if (!next || !next.dataset.refresh) return location.reload();
      if (!part.contains(document.activeElement) && String(getSelection()) === "") {
        part.replaceWith(next);
        for (const button of next.querySelectorAll("button.copy")) button.hidden = false;
        for (const tail of next.querySelectorAll(".tail")) tail.scrollTop = tail.scrollHeight;
        part = next;
      }
    } else problem = `the server responded with ${response.status}`;
  } catch (error) {
    problem = "the server does not respond; it may have ended";
  }
  const status = part.querySelector("[data-status]");
  if (status) status.textContent = problem || `refreshed at ${new Date().toLocaleTimeString()}`;
  schedule(part);
}

function schedule(part) {
  setTimeout(() => (document.hidden ? schedule(part) : refresh(part)), REFRESH_MILLISECONDS);
}

for (const part of document.querySelectorAll("[data-refresh]")) schedule(part);
