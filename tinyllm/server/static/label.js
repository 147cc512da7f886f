// The labeler's page. Two rules hold everywhere:
//   text from the server (prompts, answers, names) goes through textContent alone and never becomes markup;
//   nothing is called saved before the server has said so, and a retry carries the same key, so that it cannot save twice.
"use strict";

const FLAGS = [["toxic", "t", "Toxic"], ["made_up", "m", "Made up"], ["not_following", "f", "Does not follow"]];
const HIGHEST = 7;
const LONGEST_WAIT = 15;  // seconds between two tries
const ANSWER_TIME = 10;   // seconds until a request counts as lost

const element = (id) => document.getElementById(id);
const copy = (id) => element(id).content.firstElementChild.cloneNode(true);
const letter = (place) => String.fromCharCode(65 + place);
const sleep = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

let pageToken = "";
let labeler = "";
let task = null;           // what the server said is at this position
let draft = null;          // {ratings, toxic, made_up, not_following}, in the order shown
let current = 0;           // the answer that keys speak to
let busy = false;          // a label is on its way
const drafts = new Map();  // position -> what was begun there and not saved
let wake = () => {};       // ends the wait before the next try
let giveUp = false;        // the labeler would rather change the label than wait

// ---- talking to the server

class Refusal extends Error {}  // the server answered, and said no

async function ask(path, options = {}) {
  const response = await fetch(path, {...options, cache: "no-store", signal: AbortSignal.timeout(1000 * ANSWER_TIME)});
  let value = {};
  try { value = await response.json(); } catch (error) { if (response.ok) throw error; }
  if (response.ok) return value;
  const text = typeof value.error === "string" ? value.error : `the server answered with status ${response.status}`;
  throw response.status < 500 ? new Refusal(text) : new Error(text);
}

function newKey() {  // crypto.randomUUID is there on this machine only, not for a page from another address
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function send(body) {  // until it is saved; false if the server refuses or the labeler wants to change it
  const request = {method: "POST", body: JSON.stringify(body),
                   headers: {"Content-Type": "application/json", "X-Tinyllm-Token": pageToken}};
  for (let failures = 0; ; ) {
    say(failures ? `Not saved yet. Try ${failures + 1}...` : "Saving...", failures ? "wrong" : "");
    try {
      const answer = await ask("/api/label", request);
      if (answer.saved !== true || answer.key !== body.key) throw new Error("the answer was not understood");
      return answer;
    } catch (error) {
      if (error instanceof Refusal) { say(`Not saved: ${error.message}`, "wrong"); return false; }
      failures += 1;
      await waitToRetry(Math.min(2 ** (failures - 1), LONGEST_WAIT), error);
      if (giveUp) { say("Not saved. Change it, then save again.", "wrong"); return false; }
    }
  }
}

async function waitToRetry(seconds, error) {
  const lost = error instanceof TypeError || error.name === "TimeoutError";
  const why = lost ? "the server does not answer" : error.message;
  let waiting = true;
  giveUp = false;
  wake = () => { waiting = false; };
  showRetry(true);
  for (let left = seconds; left > 0 && waiting; left -= 0.25) {
    if (left === Math.ceil(left)) say(`Not saved yet: ${why}. Trying again in ${left} s.`, "wrong");
    await sleep(0.25);
  }
  showRetry(false);
}

function showRetry(value) {
  element("again").hidden = element("edit").hidden = !value;
  element("actions").classList.toggle("retrying", value);
}

// ---- showing

function say(text, kind = "") {
  element("status").textContent = text;
  element("status").className = kind;
}

function setText(node, text, empty) {
  node.textContent = text || empty;
  node.classList.toggle("empty", !text);
}

function setBusy(value) {
  busy = value;
  document.body.classList.toggle("busy", value);
  for (const node of document.querySelectorAll("#answers input, #submit, #skip, #back, #who")) node.disabled = value;
  if (!value) element("back").disabled = !task || (!task.finished && task.position === 0);
}

function showOnly(...ids) {
  for (const id of ["start", "work", "finished", "actions"]) element(id).hidden = !ids.includes(id);
}

function showProgress(progress) {
  element("progress").max = progress.total;
  element("progress").value = progress.done;
  element("count").textContent = `${progress.done} of ${progress.total}`;
  const rows = [["with yourself", progress.self], ...progress.others.map((other) => [`with ${other.labeler}`, other])];
  const shown = rows.filter(([, agreement]) => agreement.items > 0);
  element("agreements").replaceChildren(...shown.map(([name, agreement]) => agreementRow(name, agreement)));
  element("agreement").hidden = shown.length === 0;
}

function agreementRow(name, agreement) {
  const row = document.createElement("li");
  const parts = [["name", "span", name], ["kappa", "b", agreement.kappa === null ? "-" : agreement.kappa.toFixed(2)],
                 ["few", "span", `${plural(agreement.items, "item")}, same order in ${Math.round(100 * agreement.same_order)} %`]];
  for (const [kind, tag, text] of parts) {
    const part = row.appendChild(document.createElement(tag));
    part.className = kind;
    part.textContent = text;
  }
  return row;
}

function show(next) {
  task = next;
  setBusy(false);
  showProgress(task.progress);
  if (task.finished) return showFinished(task.progress);
  showOnly("work", "actions");
  draft = drafts.get(task.position) || fromLabel(task.label, task.answers.length);
  element("prompt").replaceChildren(...task.prompt.map(turn));
  element("answers").replaceChildren(...task.answers.map(answer));
  refresh();
  window.scrollTo(0, 0);
  focusAnswer(0, {preventScroll: true});
}

function fromLabel(label, n) {
  const made = {ratings: label && label.ratings ? [...label.ratings] : Array(n).fill(null)};
  for (const [flag] of FLAGS) made[flag] = label ? [...label[flag]] : Array(n).fill(false);
  return made;
}

function turn(message) {
  const node = copy("turn");
  node.querySelector(".role").textContent = message.tool_call ? `${message.role} calls` : message.role;
  setText(node.querySelector(".text"), message.tool_call || message.content, "(empty)");
  return node;
}

function answer(text, place) {
  const node = copy("answer");
  node.setAttribute("aria-label", `Answer ${letter(place)}`);
  node.querySelector("h3").textContent = letter(place);
  setText(node.querySelector(".text"), text, "(an empty answer)");
  const scale = node.querySelector(".scale");
  node.querySelector(".rating").setAttribute("aria-label", `Rating of answer ${letter(place)}, 1 worst to 7 best`);
  for (let rating = 1; rating <= HIGHEST; rating++) {
    const step = scale.appendChild(copy("rating"));
    const input = step.querySelector("input");
    input.name = `rating-${place}`;
    input.value = rating;
    step.querySelector("span").textContent = rating;
    input.addEventListener("change", () => rate(place, rating));
  }
  node.querySelector(".flags").setAttribute("aria-label", `Faults of answer ${letter(place)}`);
  for (const [flag, key, name] of FLAGS) {
    const chip = node.querySelector(".flags").appendChild(copy("flag"));
    chip.querySelector("span").textContent = name;
    const input = chip.querySelector("input");
    input.dataset.flag = flag;
    input.setAttribute("aria-keyshortcuts", key);
    input.addEventListener("change", () => { draft[flag][place] = input.checked; refresh(); });
  }
  node.addEventListener("focusin", () => setCurrent(place));
  node.addEventListener("pointerdown", () => setCurrent(place));
  return node;
}

function refresh() {  // the page after the draft
  for (const [place, node] of [...element("answers").children].entries()) {
    for (const input of node.querySelectorAll("input[type=radio]")) input.checked = draft.ratings[place] === Number(input.value);
    for (const input of node.querySelectorAll("input[type=checkbox]")) input.checked = draft[input.dataset.flag][place];
    node.classList.toggle("rated", draft.ratings[place] !== null);
    if (draft.ratings[place] !== null) node.classList.remove("missing");
  }
}

function setCurrent(place) {
  current = place;
  for (const [i, node] of [...element("answers").children].entries()) node.classList.toggle("current", i === place);
}

function focusAnswer(place, options) {
  const node = element("answers").children[place];
  if (!node) return;
  setCurrent(place);
  node.focus(options);
}

function showFinished(progress) {
  showOnly("finished");
  const skipped = progress.skipped ? `, ${progress.skipped} of them skipped` : "";
  element("summary").textContent = `${plural(progress.done, "item")} seen${skipped}.`;
  element("finished").focus();
}

// ---- doing

function rate(place, rating) {
  if (busy) return;
  draft.ratings[place] = rating;
  refresh();
  say(draft.ratings.every((value) => value !== null) ? "All rated: Enter saves." : "");
}

function rateAndMoveOn(rating) {
  rate(current, rating);
  focusAnswer(Math.min(current + 1, task.answers.length - 1));
}

function toggle(flag) {
  draft[flag][current] = !draft[flag][current];
  refresh();
}

async function open(position) {
  const query = new URLSearchParams({labeler});
  if (position !== undefined) query.set("position", position);
  setBusy(true);
  try {
    show(await ask(`/api/task?${query}`));
    return true;
  } catch (error) {
    setBusy(false);
    const why = error instanceof Refusal ? error.message : "the server does not answer; is it still running?";
    say(`Nothing could be loaded: ${why}`, "wrong");
    element("start-error").textContent = element("start").hidden ? "" : `That did not work: ${why}`;
    return false;
  }
}

async function submit(skip) {
  if (busy || !task || task.finished) return;
  const missing = draft.ratings.indexOf(null);
  if (!skip && missing >= 0) {
    element("answers").children[missing].classList.add("missing");
    focusAnswer(missing);
    return say(`Answer ${letter(missing)} has no rating yet.`, "wrong");
  }
  setBusy(true);
  const body = {labeler, position: task.position, task: task.task, key: newKey(), ratings: skip ? null : draft.ratings};
  for (const [flag] of FLAGS) body[flag] = skip ? draft[flag].map(() => false) : draft[flag];
  const answer = await send(body);
  if (!answer) {
    setBusy(false);
    return focusAnswer(current);
  }
  drafts.delete(task.position);
  showProgress(answer.progress);
  if (await open(task.position + 1)) say(skip ? "Skipped, and saved as that." : "Saved.", "saved");
  else say("Saved. But the next item could not be loaded: is the server still running?", "wrong");
}

async function back() {
  if (busy || !task) return;
  const position = task.finished ? task.progress.total : task.position;
  if (position === 0) return;
  if (!task.finished) drafts.set(position, draft);
  say("");
  await open(position - 1);
}

async function begin(name) {
  labeler = name;
  if (!await open()) return;
  element("who").textContent = name;
  element("who").title = "Change who is labeling";
  element("who").hidden = false;
}

function askName() {
  if (busy) return;
  drafts.clear();
  task = null;
  say("");
  element("agreement").hidden = element("who").hidden = true;
  element("progress").value = 0;
  element("count").textContent = "";
  element("name").value = labeler;
  element("start-error").textContent = "";
  showOnly("start");
  element("name").select();
}

// ---- keys

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || busy || !task) return;
  if (event.target.id === "name") return;
  const onButton = event.target instanceof HTMLButtonElement || event.target instanceof HTMLAnchorElement;
  if (event.key === "Enter" && onButton) return;  // Enter presses the button it stands on
  if (event.repeat && ["Enter", "s", "b"].includes(event.key)) return event.preventDefault();
  const action = task.finished ? (event.key === "b" ? back : null) : actionOf(event.key);
  if (!action) return;
  event.preventDefault();
  action();
}

function actionOf(key) {
  const last = task.answers.length - 1;
  if (key >= "1" && key <= String(HIGHEST) && key.length === 1) return () => rateAndMoveOn(Number(key));
  if (key === "ArrowDown" || key === "j") return () => focusAnswer(Math.min(current + 1, last));
  if (key === "ArrowUp" || key === "k") return () => focusAnswer(Math.max(current - 1, 0));
  if (key === "=" && current > 0 && draft.ratings[current - 1]) return () => rateAndMoveOn(draft.ratings[current - 1]);
  for (const [flag, letterKey] of FLAGS) if (key === letterKey) return () => toggle(flag);
  return {s: () => submit(true), b: back, Enter: () => submit(false)}[key] || null;
}

async function main() {
  document.addEventListener("keydown", onKey);
  element("submit").addEventListener("click", () => submit(false));
  element("skip").addEventListener("click", () => submit(true));
  element("back").addEventListener("click", back);
  element("revise").addEventListener("click", back);
  element("who").addEventListener("click", askName);
  element("again").addEventListener("click", () => wake());
  element("edit").addEventListener("click", () => { giveUp = true; wake(); });
  element("start").addEventListener("submit", (event) => { event.preventDefault(); begin(element("name").value.trim()); });
  window.addEventListener("beforeunload", (event) => { if (busy) event.preventDefault(); });
  try {
    const session = await ask("/api/session");
    pageToken = session.token;
    if (session.labeler) return await begin(session.labeler);
    askName();
  } catch (error) {
    askName();
    element("start-error").textContent = "The server does not answer. Is it still running?";
  }
}

main();
