"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  document.documentElement.classList.add("on");

  // Theme: as the system says, until somebody chooses.
  const root = document.documentElement, button = $("theme");
  const themes = ["auto", "light", "dark"];
  const store = (value) => { try { if (value) localStorage.setItem("gpuwaste-theme", value); return localStorage.getItem("gpuwaste-theme"); } catch { return value || null; } };
  const wear = (theme) => {
    if (theme === "auto") root.removeAttribute("data-theme"); else root.setAttribute("data-theme", theme);
    button.textContent = "Theme: " + theme;
    button.dataset.now = theme;
  };
  wear(themes.includes(store()) ? store() : "auto");
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(button.dataset.now) + 1) % themes.length];
    store(next);
    wear(next);
  });

  const body = $("rows");
  if (!body) return;
  const data = JSON.parse($("data").textContent);
  const PAGE = 100;
  const rows = Array.from(body.rows, (tr) => ({
    tr, id: tr.id.slice(2), d: tr.dataset, usd: tr.dataset.usd === "" ? -1 : Number(tr.dataset.usd), rank: Number(tr.dataset.rank), text: null, open: null,
  }));
  body.dataset.ready = "";
  let shown = rows, limit = PAGE, by = "rank", down = false;
  const levels = { assumed: 0, estimated: 1, measured: 2 };
  const key = {
    rank: (r) => r.rank, usd: (r) => r.usd, money: (r) => r.d.money, sure: (r) => levels[r.d.sure],
    title: (r) => r.d.title.toLowerCase(), check: (r) => r.d.check,
  };
  const dollars = (n) => "$" + n.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 }) + "/h";

  const draw = () => {
    const nodes = [];
    for (const r of shown.slice(0, limit)) { nodes.push(r.tr); if (r.open) nodes.push(r.open); }
    body.replaceChildren(...nodes);
    $("more").hidden = shown.length <= limit;
    $("more").textContent = `Show more (${Math.max(0, shown.length - limit).toLocaleString("en-US")} left)`;
  };
  const filters = ["money", "sure", "check", "status", "decision", "cluster", "namespace"].filter((f) => $("by-" + f));
  const apply = () => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const want = filters.map((f) => [f, $("by-" + f).value]).filter(([, v]) => v !== "");
    shown = rows.filter((r) => {
      if (want.some(([f, v]) => r.d[f] !== v)) return false;
      if (!words.length) return true;
      r.text ??= r.tr.textContent.toLowerCase();
      return words.every((w) => r.text.includes(w));
    });
    const k = key[by];
    shown.sort((a, b) => { const x = k(a), y = k(b); return (x < y ? -1 : x > y ? 1 : a.rank - b.rank) * (down ? -1 : 1); });
    limit = PAGE;
    draw();
    const waste = shown.reduce((sum, r) => sum + (r.d.status === "suppressed" ? 0 : Number(r.d.waste || 0)), 0);
    $("count").textContent = `${shown.length.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} findings, ${dollars(waste)} of waste`;
  };
  $("search").addEventListener("input", apply);
  filters.forEach((f) => $("by-" + f).addEventListener("change", apply));
  $("reset").addEventListener("click", () => {
    $("search").value = "";
    filters.forEach((f) => { $("by-" + f).value = ""; });
    apply();
  });
  document.querySelectorAll("#list th[data-key]").forEach((th) => th.firstElementChild.addEventListener("click", () => {
    const first = th.dataset.key === "usd" || th.dataset.key === "sure";
    down = by === th.dataset.key ? !down : first;
    by = th.dataset.key;
    document.querySelectorAll("#list th[data-key]").forEach((other) => other.setAttribute("aria-sort", other === th ? (down ? "descending" : "ascending") : "none"));
    apply();
  }));
  $("more").addEventListener("click", () => { limit += PAGE; draw(); });

  // Details of a finding, built when somebody asks. Text only: nothing of it is ever markup.
  const el = (name, text, cls) => { const e = document.createElement(name); if (text !== undefined) e.textContent = text; if (cls) e.className = cls; return e; };
  const details = (r) => {
    const d = data[r.id], tr = el("tr", undefined, "d"), td = el("td"), dl = el("dl");
    td.colSpan = 6;
    tr.id = "d-" + r.id;
    const add = (name, ...values) => { if (!values.length) return; dl.append(el("dt", name)); const dd = el("dd"); values.forEach((v) => dd.append(v instanceof Node ? v : el("div", v))); dl.append(dd); };
    add("Evidence", ...d.evidence);
    add("Confidence", ...d.reasons.map((x) => d.confidence + ": " + x));
    if (d.placement) add("Placement", d.placement);
    if (d.patch) add("Patch", el("pre", d.patch));
    add("Claims", ...d.claims);
    if (d.owner) add("Owner", d.owner);
    if (d.status) add("Status", d.status);
    if (d.decision) add("Decision", d.decision);
    if (d.record) add("Record", d.record);
    add("Id", el("code", r.id));
    add("Explained by", el("code", "gpuwaste explain " + d.check));
    td.append(dl);
    tr.append(td);
    return tr;
  };
  const toggle = (r, open) => {
    const title = r.tr.querySelector(".title");
    if (open && !r.open) { r.open = details(r); r.tr.after(r.open); }
    if (!open && r.open) { r.open.remove(); r.open = null; }
    title.setAttribute("aria-expanded", String(open));
  };
  const byId = new Map(rows.map((r) => [r.id, r]));
  body.addEventListener("click", (event) => {
    const title = event.target.closest(".title");
    if (!title) return;
    const r = byId.get(title.closest("tr").id.slice(2));
    toggle(r, !r.open);
  });
  const jump = () => {
    const r = byId.get(decodeURIComponent(location.hash).replace(/^#f-/, ""));
    if (!r) return;
    if (!shown.includes(r)) $("reset").click();
    limit = Math.max(limit, shown.indexOf(r) + 1);
    draw();
    toggle(r, true);
    r.tr.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", jump);
  // Paper has no "show more".
  let before = PAGE;
  addEventListener("beforeprint", () => { before = limit; limit = Infinity; draw(); document.querySelectorAll("details").forEach((d) => { if (!d.open) { d.open = true; d.dataset.print = ""; } }); });
  addEventListener("afterprint", () => { limit = before; draw(); document.querySelectorAll("details[data-print]").forEach((d) => { d.open = false; delete d.dataset.print; }); });
  apply();
  jump();
})();
