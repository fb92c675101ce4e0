// All active trips, by fleet.v1: one model over any number of connections.

const LONGEST_WAIT_MS = 30_000;
const CONNECT_MS = 10_000;
const STOP_CODE = 4500; // from here on there is no use in coming back

/** One trip, as its row says; see docs/protocol.md, fleet.v1. */
export interface FleetTrip {
  booking_id: string;
  booking_number: string | null;
  status: string;
  phase: string;
  freshness_state: "live" | "stale" | "lost" | null;
  freshness_reason: string | null;
  latitude: number | null;
  longitude: number | null;
  speed_kmh: number | null;
  heading_degrees: number | null;
  recorded_at: number | null;
  received_at: number | null;
  seq: number;
  distance_m: number;
  started_at: number;
  /** Of the way that the trip is on; a server of the release before says nothing. */
  arrival?: Standing | null;
  arrival_at?: number | null;
}

export type Standing = "approaching" | "arrived" | "left";

type Row = unknown[];

type Message =
  | { type: "welcome"; epoch: string; version: number; columns: string[]; heartbeat_s: number;
      recovered: boolean | null }
  | { type: "snapshot"; rows: Row[]; more: boolean }
  | { type: "changes"; version: number; rows: Row[]; removed: string[] }
  | { type: "heartbeat" | "token_expiring" };

export interface FleetEvents {
  /** These trips are new or have changed, these are over; `all` when everything was told anew. */
  changed(trips: readonly FleetTrip[], removed: readonly string[], all: boolean): void;
  link(state: "open" | "down" | "refused", code: number): void;
}

export class Fleet {
  readonly trips = new Map<string, FleetTrip>();
  private columns: string[] = [];
  private epoch: string | null = null;
  private version: number | null = null;
  private coming = 0; // the version that a snapshot will have brought
  private fresh: FleetTrip[] | null = null; // a snapshot on its way
  private failures = 0;
  private silenceMs = CONNECT_MS;

  constructor(
    private readonly token: (why: "join" | "expiring" | "expired") => Promise<string>,
    private readonly events: FleetEvents,
  ) {
    void this.run();
  }

  private async run(): Promise<void> {
    let why: "join" | "expired" = "join";
    for (;;) {
      let code = 0;
      try {
        code = await this.follow(await this.token(why));
      } catch {
        this.events.link("refused", 4501); // nobody gives a token: the page asks for a login
        return;
      }
      if (code >= STOP_CODE) return this.events.link("refused", code);
      why = code === 4401 ? "expired" : "join";
      this.events.link("down", code);
      const longest = Math.min(1000 * 2 ** this.failures++, LONGEST_WAIT_MS);
      await new Promise((resolve) => setTimeout(resolve, longest * (0.5 + Math.random() / 2)));
    }
  }

  private follow(token: string): Promise<number> {
    const url = new URL("/ws/fleet", location.origin.replace(/^http/, "ws"));
    if (this.epoch !== null && this.version !== null) {
      url.searchParams.set("epoch", this.epoch);
      url.searchParams.set("version", String(this.version));
    }
    this.silenceMs = CONNECT_MS;
    this.fresh = null;
    return new Promise((resolve) => {
      const socket = new WebSocket(url, ["fleet.v1", `bearer.${token}`]);
      let silence: ReturnType<typeof setTimeout>;
      const end = (code: number): void => {
        clearTimeout(silence);
        socket.onmessage = socket.onclose = null;
        socket.close();
        resolve(code);
      };
      const heard = (): void => {
        clearTimeout(silence);
        silence = setTimeout(() => end(4408), this.silenceMs);
      };
      socket.onmessage = ({ data }) => {
        this.received(JSON.parse(data as string) as Message, socket);
        heard();
      };
      socket.onclose = ({ code }) => end(code);
      heard();
    });
  }

  private received(message: Message, socket: WebSocket): void {
    switch (message.type) {
      case "welcome":
        this.failures = 0;
        this.silenceMs = 2000 * message.heartbeat_s;
        this.columns = message.columns;
        this.epoch = message.epoch;
        this.coming = message.version;
        if (message.recovered !== true) this.begin();
        this.events.link("open", 0);
        break;
      case "snapshot":
        this.fresh?.push(...message.rows.map((row) => this.tripOf(row)));
        if (!message.more) this.end();
        break;
      case "changes":
        this.apply(message.rows, message.removed);
        this.version = message.version;
        break;
      case "token_expiring":
        this.token("expiring").then(
          (token) => socket.send(JSON.stringify({ type: "refresh", token })),
          () => undefined, // closed with 4401 at its end
        );
        break;
    }
  }

  private begin(): void {
    this.fresh = [];
    this.version = null;
  }

  private end(): void {
    this.trips.clear();
    for (const trip of this.fresh ?? []) this.trips.set(trip.booking_id, trip);
    this.fresh = null;
    this.version = this.coming;
    this.events.changed([...this.trips.values()], [], true);
  }

  private apply(rows: Row[], removed: string[]): void {
    const trips = rows.map((row) => this.tripOf(row));
    for (const trip of trips) this.trips.set(trip.booking_id, trip);
    for (const id of removed) this.trips.delete(id);
    this.events.changed(trips, removed, false);
  }

  private tripOf(row: Row): FleetTrip {
    const trip: Record<string, unknown> = {};
    this.columns.forEach((name, index) => (trip[name] = row[index]));
    return trip as unknown as FleetTrip;
  }
}
