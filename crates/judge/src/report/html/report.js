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
  const el = (name, text, cls) => { const e = document.createElement(name); if (text !== undefined) e.textContent = text; if (cls) e.className = cls; return e; };
  // A string stands once in the file; findings name it by its number. Text only: nothing of it is ever markup.
  const { s: strings, k: keys, f: found } = JSON.parse($("data").textContent);
  const lists = new Set(["reasons", "evidence", "claims", "commands"]);
  const PAGE = 100;
  const there = new Map(Array.from(body.rows, (tr) => [tr.id.slice(2), tr]));
  const rows = found.map((values, i) => {
    const d = { rank: i + 1 };
    keys.forEach((key, at) => {
      const v = values[at];
      d[key] = key === "id" || key === "usd" || key === "waste" ? v : lists.has(key) ? (v || []).map((n) => strings[n]) : v === null ? "" : strings[v];
    });
    return { d, id: d.id, tr: there.get(d.id) || null, text: null, open: null };
  });
  const tag = (word) => el("span", word, "tag t-" + word.replaceAll(" ", "-"));
  const money = (n, digits) => n.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  // Built when it is shown, as the file's own first rows are.
  const row = (r) => {
    if (!r.tr) {
      const d = r.d, tr = el("tr", undefined, "f " + d.status), cell = (child, cls) => { const td = el("td", undefined, cls); td.append(child); tr.append(td); return td; };
      tr.id = "f-" + r.id;
      cell(String(d.rank), "n");
      cell(d.usd === null ? "–" : money(d.usd * 730, 0), "n");
      cell(tag(d.money));
      cell(tag(d.sure));
      const title = el("button", d.title, "title");
      title.type = "button";
      title.setAttribute("aria-expanded", "false");
      const td = cell(title, "c-title");
      if (d.status !== "new") td.append(" ", tag(d.status));
      td.append(el("div", where(d), "where"), el("div", d.action, "fix"));
      cell(d.check, "c-check");
      r.tr = tr;
    }
    const t = r.tr.dataset;
    if (!t.rank) Object.assign(t, { rank: r.d.rank, usd: r.d.usd === null ? "" : r.d.usd, sure: r.d.sure, check: r.d.check, title: r.d.title, owner: r.d.owner, namespace: r.d.namespace, money: r.d.money, status: r.d.status });
    return r.tr;
  };
  const where = (d) => [d.where, d.model, d.cluster, d.owner].filter(Boolean).join(" · ");
  body.dataset.ready = "";
  let shown = rows, limit = PAGE, by = "rank", down = false;
  const levels = { assumed: 0, estimated: 1, measured: 2 };
  const key = {
    rank: (r) => r.d.rank, usd: (r) => (r.d.usd === null ? -1 : r.d.usd), money: (r) => r.d.money, sure: (r) => levels[r.d.sure],
    title: (r) => r.d.title.toLowerCase(), check: (r) => r.d.check,
  };

  const draw = () => {
    const nodes = [];
    for (const r of shown.slice(0, limit)) { nodes.push(row(r)); if (r.open) nodes.push(r.open); }
    body.replaceChildren(...nodes);
    $("more").hidden = shown.length <= limit;
    $("more").textContent = `Show more (${Math.max(0, shown.length - limit).toLocaleString("en-US")} left)`;
  };
  const filters = ["money", "sure", "check", "status", "decision", "cluster", "namespace", "owner"].filter((f) => $("by-" + f));
  // What is asked for stands in the address, so that a link shows the same.
  const remember = () => {
    const state = new URLSearchParams();
    if ($("search").value) state.set("q", $("search").value);
    filters.forEach((f) => { if ($("by-" + f).value) state.set(f, $("by-" + f).value); });
    if (by !== "rank" || down) state.set("sort", (down ? "-" : "") + by);
    try { history.replaceState(null, "", "#" + state); } catch { /* a viewer without addresses */ }
  };
  const recall = () => {
    const state = new URLSearchParams(location.hash.slice(1));
    $("search").value = state.get("q") || "";
    filters.forEach((f) => { const s = $("by-" + f), v = state.get(f) || ""; s.value = v; if (s.value !== v) s.value = ""; });
    const sort = state.get("sort") || "rank";
    if (key[sort.replace("-", "")]) { by = sort.replace("-", ""); down = sort.startsWith("-"); }
  };
  const apply = (keep) => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const want = filters.map((f) => [f, $("by-" + f).value]).filter(([, v]) => v !== "");
    shown = rows.filter((r) => {
      if (want.some(([f, v]) => r.d[f] !== v)) return false;
      if (!words.length) return true;
      r.text ??= [r.d.title, where(r.d), r.d.action, r.d.fix, r.d.check, r.id].join(" ").toLowerCase();
      return words.every((w) => r.text.includes(w));
    });
    const k = key[by];
    shown.sort((a, b) => { const x = k(a), y = k(b); return (x < y ? -1 : x > y ? 1 : a.d.rank - b.d.rank) * (down ? -1 : 1); });
    limit = PAGE;
    draw();
    document.querySelectorAll("#list th[data-key]").forEach((th) => th.setAttribute("aria-sort", th.dataset.key === by ? (down ? "descending" : "ascending") : "none"));
    const waste = shown.reduce((sum, r) => sum + (r.d.status === "suppressed" ? 0 : Number(r.d.waste || 0)), 0);
    $("count").textContent = `${shown.length.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} findings, $${money(waste * 730, 0)} a month of waste`;
    if (!keep) remember();
  };
  $("search").addEventListener("input", () => apply());
  filters.forEach((f) => $("by-" + f).addEventListener("change", () => apply()));
  const reset = (keep) => {
    $("search").value = "";
    filters.forEach((f) => { $("by-" + f).value = ""; });
    apply(keep);
  };
  $("reset").addEventListener("click", () => reset());
  document.querySelectorAll("#list th[data-key]").forEach((th) => th.firstElementChild.addEventListener("click", () => {
    const first = th.dataset.key === "usd" || th.dataset.key === "sure";
    down = by === th.dataset.key ? !down : first;
    by = th.dataset.key;
    apply();
  }));
  $("more").addEventListener("click", () => { limit += PAGE; draw(); });

  // What is shown, for a spreadsheet: no cell is a formula.
  const csv = () => {
    const cell = (v) => { const t = String(v ?? ""); return '"' + (/^[\s"]*[=+\-@\uff1d\uff0b\uff0d\uff20]/.test(t) ? "'" + t : t).replaceAll('"', '""') + '"'; };
    const head = ["id", "check", "money", "confidence", "usd_per_hour", "usd_per_month", "title", "where", "model", "cluster", "namespace", "owner", "action", "status"];
    const line = (d) => [d.id, d.check, d.money, d.sure, d.usd ?? "", d.usd === null ? "" : Math.round(d.usd * 73000) / 100, d.title, d.where, d.model, d.cluster, d.namespace, d.owner, d.action, d.status];
    return [head, ...shown.map((r) => line(r.d))].map((l) => l.map(cell).join(",")).join("\r\n") + "\r\n";
  };
  $("csv").addEventListener("click", () => {
    const a = el("a");
    a.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    a.download = "gpuwaste-findings.csv";
    a.click();
    setTimeout(() => URL.revokeObjectURL(a.href), 1000);
  });

  const copy = (name, text) => {
    const b = el("button", "Copy", "copy");
    b.type = "button";
    b.setAttribute("aria-label", "Copy " + name);
    b.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(text); b.textContent = "Copied"; } catch {
        const area = el("textarea", text);
        document.body.append(area);
        area.select();
        b.textContent = document.execCommand("copy") ? "Copied" : "Not copied";
        area.remove();
      }
      setTimeout(() => { b.textContent = "Copy"; }, 2000);
    });
    return b;
  };
  // Details of a finding, built when somebody asks.
  const details = (r) => {
    const d = r.d, tr = el("tr", undefined, "d"), td = el("td"), dl = el("dl");
    td.colSpan = 6;
    tr.id = "d-" + r.id;
    const add = (name, ...values) => { if (!values.length) return; dl.append(el("dt", name)); const dd = el("dd"); values.forEach((v) => dd.append(v instanceof Node ? v : el("div", v))); dl.append(dd); };
    const code = (name, text) => { const box = el("div", undefined, "code"), pre = el("pre", text); pre.tabIndex = 0; box.append(pre, copy(name, text)); return box; };
    if (d.fix) add("What to do", d.fix);
    if (d.placement) add("Placement", d.placement);
    if (d.commands.length) add("Commands", ...d.commands.map((c) => code("the command", c)));
    if (d.patch && !d.commands.length) add("Patch", code("the patch", d.patch));
    add("Evidence", ...d.evidence);
    add("Confidence", ...d.reasons.map((x) => d.sure + ": " + x));
    add("Claims", ...d.claims);
    if (d.owner) add("Owner", d.owner);
    if (d.why) add("Status", d.why);
    if (d.decided) add("Decision", d.decided);
    if (d.record) add("Record", d.record);
    const id = el("div"), word = el("code", r.id);
    id.append(word, " ", copy("the id", r.id));
    add("Id", id);
    add("Explained by", el("code", "gpuwaste explain " + d.check.split("/")[0]));
    td.append(dl);
    tr.append(td);
    return tr;
  };
  const toggle = (r, open) => {
    const title = row(r).querySelector(".title");
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
    if (!r) return false;
    if (!shown.includes(r)) reset(true);
    limit = Math.max(limit, shown.indexOf(r) + 1);
    draw();
    toggle(r, true);
    r.tr.scrollIntoView({ block: "center" });
    return true;
  };
  addEventListener("hashchange", () => { if (!jump()) { recall(); apply(true); } });
  // Paper has no "show more".
  let before = PAGE;
  addEventListener("beforeprint", () => { before = limit; limit = Infinity; draw(); document.querySelectorAll("details").forEach((d) => { if (!d.open) { d.open = true; d.dataset.print = ""; } }); });
  addEventListener("afterprint", () => { limit = before; draw(); document.querySelectorAll("details[data-print]").forEach((d) => { d.open = false; delete d.dataset.print; }); });
  const linked = location.hash.startsWith("#f-");
  if (!linked) recall();
  apply(true);
  jump();
})();
