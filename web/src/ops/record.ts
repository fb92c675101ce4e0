// One trip as the operator sees it: GET /api/v1/ops/trips/{bookingId}.

import type { Fix } from "service-tracking-client";
import type { ArrivalPart } from "./standing.ts";

export interface TripEvent {
  kind: string;
  occurred_at: number;
  /** Null of what was stored long ago. */
  heard_at: number | null;
  runner_id: string | null;
}

export interface TripRecord {
  booking_id: string;
  booking_number: string | null;
  status: string;
  phase: string;
  runner_id: string | null;
  owner_id: string | null;
  started_at: number | null;
  picked_up_at: number | null;
  completed_at: number | null;
  end_reason: string | null;
  distance_m: number;
  /** The points were deleted then, for their age. */
  route_expired_at: number | null;
  pickup: [number, number] | null;
  dropoff: [number, number] | null;
  /** A server of the release before has none. */
  arrivals?: { pickup: ArrivalPart | null; dropoff: ArrivalPart | null };
  events: TripEvent[];
  columns: string[];
  points: (number | null)[][];
}

export interface Point extends Fix {
  receivedAt: number;
  speed: number | null;
  /** It was stored after a newer one: out of order, in the page's words. */
  late: boolean;
}

export class Refused extends Error {
  constructor(readonly status: number) {
    super(`HTTP ${status}`);
  }
}

type TokenOf = (why: "join" | "expired") => Promise<string>;

/** With the page's token, renewed once. Raises Refused. */
export async function ask<T>(path: string, token: TokenOf): Promise<T> {
  for (const why of ["join", "expired"] as const) {
    const answer = await fetch(path, {
      headers: { Authorization: `Bearer ${await token(why)}` },
      referrerPolicy: "no-referrer",
    });
    if (answer.status === 401 && why === "join") continue;
    if (!answer.ok) throw new Refused(answer.status);
    return ((await answer.json()) as { data: T }).data;
  }
  throw new Refused(401);
}

/** What is flagged is not drawn: nobody was there. */
export function pointsOf({ columns, points }: TripRecord): Point[] {
  const index = (name: string): number => columns.indexOf(name);
  const [seq, recorded, received, longitude, latitude, speed, late] = [
    "seq", "recorded_at", "received_at", "longitude", "latitude", "speed_kmh", "late",
  ].map(index) as [number, number, number, number, number, number, number];
  const verdict = index("verdict");
  return points.filter((row) => !row[verdict]).map((row) => ({
    seq: row[seq]!,
    longitude: row[longitude]!,
    latitude: row[latitude]!,
    speed_kmh: row[speed] ?? 0,
    heading_degrees: 0,
    recorded_at: "",
    at: row[recorded]!,
    arrivedAt: null,
    receivedAt: row[received]!,
    speed: row[speed] ?? null,
    late: row[late] === 1,
  }));
}
