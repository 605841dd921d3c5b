"use strict";
const at = id => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const FILTERS = ["class", "fold", "seed", "group", "flag"];
const ALL = "", ANY = "any";
let shown = [], open = null;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text; // never as markup: names are anybody's
  if (className) made.className = className;
  return made;
}

function printed(value, column) {
  return value === null ? "–" : value.toFixed(column.digits).replace("-", "−");
}

function size(value, column) { // by which cases are sorted: of an error its magnitude
  return column.signed ? Math.abs(value) : value;
}

function sorted(entries, place, down) { // cases without the value last, ties in the order of the study
  const column = data.columns[place];
  return [...entries].sort((a, b) => {
    const one = a.values[place], other = b.values[place];
    if (one === null || other === null) return (one === null) - (other === null) || a.order - b.order;
    return (size(one, column) - size(other, column)) * (down ? -1 : 1) || a.order - b.order;
  });
}

function matches(entry, wanted) {
  const words = wanted.find.trim().toLowerCase();
  const named = !words || entry.case.toLowerCase().includes(words) || entry.subject.toLowerCase().includes(words);
  const flagged = wanted.flag === ALL || (wanted.flag === ANY ? entry.flags.length > 0
    : entry.flags.includes(wanted.flag.slice(1)));
  const same = ["fold", "seed", "group"].every(key => wanted[key] === ALL || "=" + entry[key] === wanted[key]);
  return named && flagged && same && (wanted.class === ALL || entry.classes.includes(wanted.class.slice(1)));
}

function wanted() {
  const values = Object.fromEntries(FILTERS.map(key => [key, at(key).value]));
  return { ...values, find: at("find").value };
}

function picture(place) { // a copy in which an outline names its class under the pointer
  const made = at(`picture${place}`).content.firstElementChild.cloneNode(true);
  for (const outline of made.querySelectorAll("[data-class]")) {
    const name = document.createElementNS(made.namespaceURI, "title");
    name.textContent = data.choices.class[outline.dataset.class - 1];
    outline.append(name);
  }
  return made;
}

const observer = new IntersectionObserver(found => found.filter(each => each.isIntersecting).forEach(each => {
  observer.unobserve(each.target);
  each.target.append(picture(each.target.entry.pictures[each.target.entry.main].place));
}), { rootMargin: "400px" });

function card(entry) {
  const made = element("button", undefined, "card"), about = element("span", undefined, "about");
  const frame = element("span", undefined, "picture");
  made.type = "button";
  about.append(element("bdi", entry.case), element("span", "", "value"), element("span", entry.flags.join(", "), "flags"));
  made.append(frame, about);
  frame.entry = entry;
  if (entry.pictures.length) observer.observe(frame);
  made.addEventListener("click", () => show(entry));
  return made;
}

function update() {
  const place = Number(at("sort").value), column = data.columns[place], now = wanted();
  shown = sorted(data.entries.filter(entry => matches(entry, now)), place, at("down").checked);
  for (const entry of shown)
    entry.card.querySelector(".value").textContent = `${column.title}: ${printed(entry.values[place], column)}`;
  at("cases").replaceChildren(...shown.map(entry => entry.card));
  at("count").textContent = `${shown.length} of ${data.entries.length} cases`;
}

function tableOf(entry) { // a row for each metric, a column for each class or quantity
  const heads = [...new Set(data.columns.map(column => column.of))], rows = [...new Set(data.columns.map(c => c.metric))];
  const table = element("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  ["", ...heads].forEach(name => head.append(element("th", name)));
  for (const metric of rows) {
    const row = body.insertRow();
    row.append(element("th", metric));
    for (const name of heads) {
      const place = data.columns.findIndex(column => column.of === name && column.metric === metric);
      row.append(element("td", place < 0 ? "" : printed(entry.values[place], data.columns[place])));
    }
  }
  return table;
}

function show(entry) {
  open = entry;
  at("name").textContent = entry.case;
  const facts = [["subject", entry.subject], ["group", entry.group], ["fold", entry.fold], ["seed", entry.seed]];
  at("facts").replaceChildren(...facts.flatMap(([name, value]) => [`${name} `, element("bdi", value), " · "]),
    element("span", entry.flags.join(", ") || "no flag", "flags"));
  at("pictures").replaceChildren(...entry.pictures.map(each => {
    const figure = element("figure");
    figure.append(picture(each.place));
    if (each.slice !== null) figure.append(element("figcaption", `slice ${each.slice}`));
    return figure;
  }));
  at("values").replaceChildren(tableOf(entry));
  at("looks").append(at("view")); // beside an open case nothing else can be reached
  if (!at("case").open) at("case").showModal();
  history.replaceState(null, "", "#" + encodeURIComponent(entry.case));
}

function close() {
  at("case").close();
}

function closed() { // by any way, also the browser's own
  history.replaceState(null, "", location.pathname);
  at("home").append(at("view"));
  if (open && open.card.isConnected) open.card.focus();
  open = null;
}

function step(by) {
  const next = shown[shown.indexOf(open) + by];
  if (next) show(next);
}

function moveFocus(key) {
  const cards = shown.map(entry => entry.card), place = cards.indexOf(document.activeElement);
  const columns = getComputedStyle(at("cases")).gridTemplateColumns.split(" ").length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  const next = place < 0 ? cards[0] : cards[place + by];
  if (next) next.focus();
}

function pressed(event) {
  const typing = ["INPUT", "SELECT"].includes(document.activeElement.tagName);
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (open && event.key === "Escape") close();
  else if (open && (event.key === "ArrowLeft" || event.key === "ArrowRight")) step(event.key === "ArrowLeft" ? -1 : 1);
  else if (!open && event.key === "/" && !typing) at("find").focus();
  else if (!open && event.key === "Escape" && typing) document.activeElement.blur();
  else if (!open && event.key.startsWith("Arrow") && !typing) moveFocus(event.key);
  else return;
  event.preventDefault();
}

function choices(id, values, first) {
  at(id).replaceChildren(...first.map(([value, text]) => new Option(text, value)),
    ...values.map(value => new Option(value, "=" + value)));
  at(id).parentElement.hidden = values.length < (id === "flag" ? 1 : 2); // nothing to choose
}

function layer(name, label, checked) {
  const box = element("input"), made = element("label");
  box.type = "checkbox";
  box.id = `show-${name}`;
  box.checked = checked;
  const apply = () => document.body.classList.toggle(box.id, box.checked);
  box.addEventListener("change", apply);
  apply();
  made.append(box, ` ${label} `);
  return made;
}

function chooseMap() {
  for (const name of data.maps) document.body.classList.toggle(`show-${name}`, at("map").value === name);
}

function fromAddress() { // gallery.html#<case>
  const name = decodeURIComponent(location.hash.slice(1)), entry = data.entries.find(each => each.case === name);
  if (entry && entry !== open) show(entry);
}

data.entries.forEach((entry, order) => {
  entry.order = order;
  entry.card = card(entry);
});
for (const key of FILTERS)
  choices(key, data.choices[key], [[ALL, "all"], ...(key === "flag" ? [[ANY, "any flag"]] : [])]);
at("sort").append(...data.columns.map((column, place) => new Option(column.title, place)));
at("down").checked = data.down;
at("layers").append(...data.layers.map(each => layer(each.name, each.label, each.checked)));
at("map").append(new Option("none", ""), ...data.maps.map(name => new Option(name, name)));
at("map").parentElement.hidden = !data.maps.length;
at("map").addEventListener("change", chooseMap);
at("find").addEventListener("input", update);
[...FILTERS, "sort", "down"].forEach(id => at(id).addEventListener("change", update));
at("controls").addEventListener("submit", event => event.preventDefault());
at("previous").addEventListener("click", () => step(-1));
at("next").addEventListener("click", () => step(1));
at("close").addEventListener("click", close);
at("case").addEventListener("close", closed);
document.addEventListener("keydown", pressed);
window.addEventListener("hashchange", fromAddress);
update();
fromAddress();
