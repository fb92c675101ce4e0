// The client library of service-tracking: one model of a trip, fed by tracking.v1.

export type { Waypoint } from "./messages.ts";
export type { Socket, SocketClass } from "./platform.ts";
export type { Fix } from "./route.ts";
export { silenceOf } from "./state.ts";
export type {
  Change, Link, Silence, TripArrival, TripEta, TripFreshness, TripState,
} from "./state.ts";
export { Trip } from "./trip.ts";
export type { TripOptions, Why } from "./trip.ts";
