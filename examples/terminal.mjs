// follow.ts in a terminal, after `tsc`: TOKEN_FILE=token node terminal.mjs ws://host:8005 BOOKING
import { readFile } from "node:fs/promises";
import { Follower, REASONS } from "./follow.js";

const [server, booking] = process.argv.slice(2);
const token = async () => (await readFile(process.env.TOKEN_FILE, "utf8")).trim();
const quiet = ["location_update", "backfill", "heartbeat"];
const show = {
  waypoint: ({ seq, longitude, latitude, recorded_at }) =>
    console.log("waypoint", seq, longitude.toFixed(6), latitude.toFixed(6), recorded_at),
  reset: () => console.log("reset"),
  message: (message) => {
    if (message.type === "freshness")
      console.log("freshness", message.state, REASONS[message.reason] ?? message.reason ?? "");
    else if (!quiet.includes(message.type)) console.log(message.type, JSON.stringify(message));
  },
  waiting: (reason, milliseconds) => console.log("waiting", reason, Math.round(milliseconds)),
};
const code = await new Follower(server, booking, token, show).run();
console.log("ended", code);
process.exit(0); // a dead connection's close may still be under way
