// The REST calls of a trip's pages.

export interface Share {
  id: string;
  label: string | null;
  from: "now" | "pickup";
  after_end_s: number;
  created_at: string;
  expires_at: string;
  status: "active" | "waiting" | "expired" | "ended" | "revoked";
  opens: number;
  last_opened_at: string | null;
  viewers: number;
}

/** What is not named stays as it is; `expires_in_s` counts from now. */
export interface ShareChanges {
  expires_in_s?: number;
  after_end_s?: number;
}

export interface NewShare {
  share_url: string;
  id: string;
}

export interface RouteProperties {
  distance_m: number;
  duration_s: number | null;
  started_at: string | null;
  completed_at: string | null;
  pickup?: [number, number] | null;
  dropoff?: [number, number] | null;
}

/** What a trip adds up to; null: nobody knows. */
export interface Summary {
  started_at: string;
  completed_at: string | null;
  distance_m: number | null;
  moving_s: number | null;
  standing_s: number | null;
  unknown_s: number | null;
  stops: Stop[] | null;
  gaps: Gap[] | null;
  coverage: number | null;
  average_speed_kmh: number | null;
  reported_max_speed_kmh: number | null;
  reported_p99_speed_kmh: number | null;
  delay_p50_s: number | null;
  delay_p95_s: number | null;
  counts: {
    waypoints: number;
    /** By verdict. */
    flagged: Record<string, number> | null;
    /** Received more than a minute after they were recorded. */
    late: number | null;
    clock_corrected: number | null;
  };
}

export interface Stop {
  longitude: number;
  latitude: number;
  from: string;
  to: string;
  seconds: number;
  at: "pickup" | "dropoff" | null;
}

export interface Gap {
  from: string;
  to: string;
  seconds: number;
  metres: number;
  kind: "moved" | "still";
}

const BASE = "/api/v1/tracking";
const GONE = 410;

export class ApiError extends Error {
  override name = "ApiError";
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/** Calls with the page's token; one that has run out is renewed once. */
export class Api {
  constructor(
    private readonly bookingId: string,
    private readonly token: (why: "join" | "expired") => Promise<string>,
  ) {}

  async shares(): Promise<Share[]> {
    const answer = (await this.call("GET", "/shares")) as { data: { shares: Share[] } };
    return answer.data.shares;
  }

  async share(wanted: object): Promise<NewShare> {
    return ((await this.call("POST", "/share", wanted)) as { data: NewShare }).data;
  }

  async changeShare(shareId: string, changes: ShareChanges): Promise<Share> {
    const path = `/shares/${encodeURIComponent(shareId)}`;
    return ((await this.call("PATCH", path, changes)) as { data: Share }).data;
  }

  async revoke(shareId: string): Promise<void> {
    await this.call("DELETE", `/shares/${encodeURIComponent(shareId)}`);
  }

  /**
   * The route's properties; of its points only those above `seq`, since the socket has the rest. Null
   * of a route that was deleted for its age.
   */
  async route(seq: number): Promise<RouteProperties | null> {
    try {
      const answer = await this.call("GET", `/route?since_seq=${seq}`);
      return (answer as { properties: RouteProperties }).properties;
    } catch (error) {
      if (error instanceof ApiError && error.status === GONE) return null;
      throw error;
    }
  }

  async summary(): Promise<Summary> {
    return ((await this.call("GET", "/summary")) as { data: Summary }).data;
  }

  private async call(method: string, path: string, body?: object): Promise<unknown> {
    let answer = await this.ask(method, path, await this.token("join"), body);
    if (answer.status === 401) {
      answer = await this.ask(method, path, await this.token("expired"), body);
    }
    if (answer.status === 204) return null;
    const content = (await answer.json()) as { error?: string };
    if (!answer.ok) throw new ApiError(answer.status, content.error ?? String(answer.status));
    return content;
  }

  private ask(method: string, path: string, token: string, body?: object): Promise<Response> {
    return fetch(`${BASE}/${this.bookingId}${path}`, {
      method,
      headers: {
        Authorization: `Bearer ${token}`,
        ...(body ? { "Content-Type": "application/json" } : {}),
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
      cache: "no-store",
      referrerPolicy: "no-referrer",
    });
  }
}
