// What travels over tracking.v1, as docs/asyncapi.yaml has it; tests/test_client_library.py compares.
// Within this version the server may add fields, types and reasons: all unknown ones are ignored.
// What only one kind of path has is optional: a share link names no runner, but may be waiting.

/** One recorded position of the track. */
export interface Waypoint {
  /** 1, 2, 3, … in the order of storing, which is not the order of recording. */
  seq: number;
  latitude: number;
  longitude: number;
  speed_kmh: number;
  /** Clockwise from north; 0 when unknown. */
  heading_degrees: number;
  /** RFC 3339, UTC, up to six digits of a second. */
  recorded_at: string;
  /** When the service got it; known of positions, not of the waypoints of a backfill. */
  received_at?: string;
}

export interface LocationUpdate extends Waypoint {
  type: "location_update";
  booking_id: string;
  runner_id?: string;
  timestamp: string;
  received_at: string;
}

/** How true what is seen still is. */
export interface FreshnessPart {
  state: "live" | "stale" | "lost";
  reason: string | null;
  last_received_at: string | null;
  next_expected_at: string | null;
}

/** Seqs from the one to the other, both included. */
export type Run = [number, number];

export interface Welcome {
  type: "welcome";
  booking_id: string;
  epoch: string | null;
  seq: number;
  status: string;
  phase: string | null;
  runner_id?: string | null;
  /** The link begins with the pickup, which is still to come. */
  waiting?: boolean;
  freshness: FreshnessPart | null;
  last_position: LocationUpdate | null;
  recovered: boolean | null;
  heartbeat_s: number;
  token_expires_at: string;
  /** As `runs` of `flagged`. */
  flagged: Run[];
  arrivals: ArrivalsPart | null;
  eta: EtaPart | null;
  eta_reason: EtaReason;
  /** Null through a link that begins with the pickup. */
  started_at?: string | null;
  picked_up_at?: string | null;
  completed_at?: string | null;
  /** The waypoints were deleted then, for their age. */
  route_expired_at?: string | null;
}

/** What is said of one way; recorded times. */
export interface ArrivalPart {
  state: "en_route" | "approaching" | "arrived";
  approaching_at: string | null;
  arrived_at: string | null;
  detected_at: string | null;
  evidence_seq: number | null;
  left_at: string | null;
}

export interface ArrivalsPart {
  pickup: ArrivalPart | null;
  dropoff: ArrivalPart | null;
}

export interface Arrival {
  type: "arrival";
  booking_id: string;
  arrivals: ArrivalsPart;
}

/** Four of five arrive between `earliest` and `latest`. */
export interface EtaPart {
  arrives_at: string;
  earliest: string;
  latest: string;
  method: string;
  samples: number;
}

export type EtaReason =
  | "no_destination"
  | "stale"
  | "not_enough_history"
  | "arrived"
  | "ended"
  | null;

export interface Eta {
  type: "eta";
  booking_id: string;
  eta: EtaPart | null;
  eta_reason: EtaReason;
}

export interface Backfill {
  type: "backfill";
  booking_id: string;
  points: Waypoint[];
  after_seq: number;
  through_seq: number;
  more: boolean;
}

export interface TrackUpdate {
  type: "track_update";
  booking_id: string;
  epoch: string | null;
  status: string;
  phase: string;
  runner_id?: string;
  waiting?: boolean;
  old_status: string | null;
  old_phase: string | null;
  old_runner_id?: string | null;
  completed_at: string | null;
  started_at?: string | null;
  picked_up_at?: string | null;
}

/** All waypoints that are left out of the route from now on; the set before does not count any more. */
export interface Flagged {
  type: "flagged";
  booking_id: string;
  runs: Run[];
}

export interface Freshness extends FreshnessPart {
  type: "freshness";
  booking_id: string;
}

export interface Heartbeat {
  type: "heartbeat";
  token_expires_at: string;
}

export interface TokenExpiring {
  type: "token_expiring";
  token_expires_at: string;
}

export interface CatchUp {
  type: "catch_up";
  since_seq: number;
}

export interface Refresh {
  type: "refresh";
  token: string;
}

export type ServerMessage =
  | Welcome
  | LocationUpdate
  | Backfill
  | TrackUpdate
  | Flagged
  | Freshness
  | Arrival
  | Eta
  | Heartbeat
  | TokenExpiring;
export type ClientMessage = CatchUp | Refresh;
