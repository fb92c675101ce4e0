// The library under test, told by lines on stdin, telling in lines of JSON on stdout.
// tests/test_client_library.py runs it: node driver.ts OPTIONS TOKEN_FILE

import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { silenceOf, Trip, type Change, type TripOptions, type Why } from "../src/index.ts";

const [options = "{}", tokenFile] = process.argv.slice(2);

function say(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

async function token(why: Why): Promise<string> {
  say({ kind: "token", why });
  const text = (await readFile(tokenFile!, "utf8")).trim();
  if (text === "none") throw new Error("no token to be had");
  return text;
}

const given = JSON.parse(options) as TripOptions;
const trip = new Trip(tokenFile === undefined ? given : { ...given, token });

function state(): object {
  const { route, retryAt, ...rest } = trip.state;
  const retryIn = retryAt === null ? null : retryAt - performance.now();
  return { ...rest, route: route.map((fix) => fix.seq), retryIn, silence: silenceOf(trip.state) };
}

trip.subscribe(() => {
  throw new Error("a listener of somebody who made a mistake");
});
trip.subscribe((change: Change) => {
  if (change.kind === "state") say({ kind: "state", ...state() });
  else if (change.kind === "route") {
    const seqs = change.added.map((fix) => fix.seq);
    const live = change.added.every((fix) => fix.arrivedAt !== null);
    say({ kind: "route", added: seqs, late: change.late, live, points: change.added });
  } else if (change.kind === "position") {
    say({ kind: "position", seq: change.fix.seq, arrivedAt: change.fix.arrivedAt, at: change.fix.at });
  } else say(change);
});

const COMMANDS: Record<string, () => void> = {
  start: () => trip.start(),
  stop: () => trip.stop(),
  offline: () => trip.offline(),
  online: () => trip.online(),
  wake: () => trip.wake(),
  catchUp: () => trip.catchUp(),
  state: () => say({ kind: "asked", ...state() }),
};
trip.start();
const commands = createInterface({ input: process.stdin });
commands.on("line", (line) => COMMANDS[line]!());
commands.on("close", () => process.exit()); // whoever told it is gone
