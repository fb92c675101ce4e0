// What is known of a trip, and which silence it is when nothing moves.

import type { Fix } from "./route.ts";

/**
 * `over`: the trip has ended; `refused`: there is no use in coming back (`closeCode`: 4500 a bug, 4501
 * sign in again, 4503 not found, not yours, or a share link that has ended, 4504 too many open).
 */
export type Link = "connecting" | "open" | "down" | "over" | "refused";

export interface TripFreshness {
  readonly state: "live" | "stale" | "lost";
  readonly reason: string | null;
  /** Milliseconds since 1970 on the service's clock: when it got the last report of this trip. */
  readonly lastReceivedAt: number | null;
  readonly nextExpectedAt: number | null;
}

/** What is said of one way. Milliseconds since 1970, as recorded. */
export interface TripArrival {
  readonly state: "en_route" | "approaching" | "arrived";
  readonly arrivedAt: number | null;
  /** The runner had arrived, and left before the pickup or the delivery was reported. */
  readonly leftAt: number | null;
}

/** Milliseconds since 1970; four of five arrive between `earliest` and `latest`. */
export interface TripEta {
  readonly arrivesAt: number;
  readonly earliest: number;
  readonly latest: number;
}

/** One object for the life of a Trip: it changes, and its `Trip` says when. */
export interface TripState {
  readonly link: Link;
  /** Of the last connection, until the next one is welcomed; 4408 also when it was silent. */
  readonly closeCode: number | null;
  readonly closeReason: string;
  /** When the next try begins, on the clock `now`. */
  readonly retryAt: number | null;
  readonly bookingId: string | null;
  readonly runnerId: string | null;
  readonly epoch: string | null;
  readonly status: string | null;
  readonly phase: string | null;
  /** A shared link before the pickup: there is nothing to see yet. */
  readonly waiting: boolean;
  /** Milliseconds since 1970; not through a link that begins with the pickup, nor with a token. */
  readonly startedAt: number | null;
  /** Milliseconds since 1970; through a share link only. */
  readonly pickedUpAt: number | null;
  /** Milliseconds since 1970. */
  readonly completedAt: number | null;
  /** Through a share link: the route was deleted then, for its age. Milliseconds since 1970. */
  readonly routeExpiredAt: number | null;
  /** As the service said it last: it cannot be true any more while the link is down. */
  readonly freshness: TripFreshness | null;
  readonly pickup: TripArrival | null;
  readonly dropoff: TripArrival | null;
  /** Null while there is no honest one. */
  readonly eta: TripEta | null;
  /** Where the marker stands: the newest position; it may be flagged since. */
  readonly newest: Fix | null;
  /** All waypoints that are known, by recorded time, without those that are flagged. */
  readonly route: readonly Fix[];
  /** Everything up to here is known. */
  readonly seq: number;
  /** No gap, and all there was at joining has come. */
  readonly isWhole: boolean;
  /** Milliseconds since 1970. */
  readonly tokenExpiresAt: number | null;
}

export type Change =
  /** The route begins again: forget what was drawn. */
  | { kind: "reset" }
  /** Late: some went in before the end of the route, or are no newer than `newest`; else they are its end. */
  | { kind: "route"; added: readonly Fix[]; late: boolean }
  /** The marker moves. */
  | { kind: "position"; fix: Fix }
  /** Anything else. */
  | { kind: "state" };

/**
 * Why nothing moves. `phone`: the runner's phone is silent; `unusable`: it is heard, but what it sends
 * moves no marker; `service`: this service is behind, or is being replaced; `link`: this device's
 * link is down; `over`: nothing more will come; `other`: old for a reason of a later version.
 */
export type Silence = null | "phone" | "unusable" | "service" | "link" | "over" | "other";

const REASONS: Record<string, Silence> = {
  no_points: "phone",
  no_usable_points: "unusable",
  pipeline_delayed: "service",
};

// Going away, internal error, restart, try again later: the link works, the service does not.
const OF_THE_SERVICE = [1001, 1011, 1012, 1013];

export function silenceOf(state: TripState): Silence {
  if (state.link === "over" || state.link === "refused") return "over";
  if (state.link !== "open") {
    if (state.closeCode !== null && OF_THE_SERVICE.includes(state.closeCode)) return "service";
    const isFirst = state.link === "connecting" && state.closeReason === "" && state.closeCode === null;
    return isFirst ? null : "link";
  }
  if (state.status === "completed" || state.status === "cancelled") return "over";
  if (state.freshness === null || state.freshness.state === "live") return null;
  return REASONS[state.freshness.reason ?? ""] ?? "other";
}
