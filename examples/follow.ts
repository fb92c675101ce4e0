// Follows a booking in a terminal and loses no waypoint: TOKEN_FILE=token node follow.ts ws://host:8005 BOOKING
// All the work is done by the client library, web/client. Node 22.18 or newer runs this as it is.

import { readFile } from "node:fs/promises";
import { silenceOf, Trip, type Fix, type Silence } from "../web/client/src/index.ts";

const SILENCES: Partial<Record<Exclude<Silence, null>, string>> = {
  phone: "the runner's phone is silent",
  unusable: "the runner's phone is heard, but sends nothing that moves the marker",
  service: "the service is behind",
};

const [server = "", booking = ""] = process.argv.slice(2);
const token = async () => (await readFile(process.env["TOKEN_FILE"]!, "utf8")).trim();
const trip = new Trip({ server, path: `/ws/tracking/${booking}`, token });
let { link, freshness, pickup, dropoff, eta } = trip.state;
const time = (ms: number | null): string => (ms === null ? "" : new Date(ms).toISOString());

function show({ seq, longitude, latitude, recorded_at }: Fix): void {
  console.log("waypoint", seq, longitude.toFixed(6), latitude.toFixed(6), recorded_at);
}

trip.subscribe((change) => {
  const { state } = trip;
  if (change.kind === "reset") console.log("reset"); // also when waypoints known before are flagged
  if (change.kind === "route") change.added.forEach(show);
  if (change.kind !== "state") return;
  if (freshness !== state.freshness && state.freshness !== null) {
    const silence = silenceOf(state);
    const words = silence === null ? "" : (SILENCES[silence] ?? state.freshness.reason);
    console.log("freshness", state.freshness.state, words);
  }
  for (const [end, before] of [["pickup", pickup], ["dropoff", dropoff]] as const) {
    const now = state[end];
    if (now !== null && before !== now) console.log("arrival", end, now.state, time(now.arrivedAt));
  }
  if (eta !== state.eta)
    console.log("eta", ...(state.eta ? [time(state.eta.earliest), time(state.eta.latest)] : ["none"]));
  if (link !== state.link && state.link === "down")
    console.log("waiting", state.closeCode, state.closeReason);
  ({ link, freshness, pickup, dropoff, eta } = state);
  if (link !== "over" && link !== "refused") return;
  console.log("ended", state.closeCode);
  process.exit(0); // a dead connection's close may still be under way
});
trip.start();
