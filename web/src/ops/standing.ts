// How a trip stands, in words: where it goes, or that its runner is there.

import * as words from "../page/words.ts";
import type { FleetTrip, Standing } from "./fleet.ts";

export interface ArrivalPart {
  state: string;
  approaching_at: string | null;
  arrived_at: string | null;
  left_at: string | null;
}

/** "To the pick-up", or "At the pick-up since 12:03". */
export function standingOf(trip: Pick<FleetTrip, "phase" | "arrival" | "arrival_at">): string {
  const text = words.words;
  const atPickup = trip.phase === "to_pickup";
  if (!trip.arrival || !trip.arrival_at) return atPickup ? text.opsToPickup : text.opsToDropoff;
  return text.opsArrival(trip.arrival, atPickup, words.timeOfDay(trip.arrival_at));
}

/** What is said of one way, in one word and a time, as a row of the fleet has it. */
export function arrivalOf(
  part: ArrivalPart | null | undefined,
): { arrival: Standing | null; arrival_at: number | null } {
  const told: [Standing, string | null][] = part ? [
    ["arrived", part.arrived_at], ["left", part.left_at], ["approaching", part.approaching_at],
  ] : [];
  for (const [arrival, at] of told) {
    if (at !== null) return { arrival, arrival_at: Date.parse(at) };
  }
  return { arrival: null, arrival_at: null };
}
