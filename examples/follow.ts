// Follows a booking over tracking.v1 and loses no waypoint. No dependency: runs in browsers and in
// Node 22 or newer (Node 20: --experimental-websocket). docs/protocol.md explains the messages.

const CONNECT_MS = 10_000;
const LONGEST_WAIT_MS = 30_000;

/** Why what is seen is old. Later versions may have more reasons: show an unknown one as it is. */
export const REASONS: Record<string, string> = {
  no_points: "the runner's phone is silent",
  no_usable_points: "the runner's phone is heard, but sends nothing that moves the marker",
  pipeline_delayed: "the service is behind",
};

export interface Waypoint {
  seq: number;
  latitude: number;
  longitude: number;
  speed_kmh: number;
  heading_degrees: number;
  recorded_at: string;
}

export type Message =
  | { type: "welcome"; epoch: string | null; recovered: boolean | null; heartbeat_s: number;
      seq: number; status: string; last_position: Waypoint | null }
  | ({ type: "location_update" } & Waypoint)
  | { type: "backfill"; points: Waypoint[]; after_seq: number; through_seq: number; more: boolean }
  | { type: "track_update"; epoch: string; status: string; phase: string }
  | { type: "freshness"; state: "live" | "stale" | "lost"; reason: string | null } // of REASONS
  | { type: "heartbeat" | "token_expiring"; token_expires_at: string };

export interface Show {
  /** A waypoint of the route: each once, late ones too; its place in the route is recorded_at. */
  waypoint(point: Waypoint): void;
  /** The route begins again: forget it. */
  reset(): void;
  /** Everything as it comes: a location_update moves the marker. */
  message(message: Message): void;
  /** The connection is lost; the next try is so far away. */
  waiting(reason: string, milliseconds: number): void;
}

/** What is known of one booking, kept over any number of connections. */
export class Follower {
  epoch: string | null = null;
  /** Everything up to here has been shown. */
  seq = 0;
  private ahead = new Set<number>(); // shown, but above a gap
  private asked = false;
  private failures = 0;
  private silenceMs = CONNECT_MS;

  constructor(
    private readonly server: string,
    private readonly booking: string,
    private readonly token: () => Promise<string>,
    private readonly show: Show,
  ) {}

  /** Until the trip is over (1000) or there is no use in coming back (4500 and above). */
  async run(): Promise<number> {
    for (;;) {
      let reason: string;
      try {
        const end = await this.follow(await this.token());
        if (end.code === 1000 || end.code >= 4500) return end.code;
        reason = `closed with ${end.code} ${end.reason}`;
      } catch (error) {
        reason = String(error); // no token could be had
      }
      const hint = Number(/retry in (\d+) s/.exec(reason)?.[1] ?? 0);
      const backoff = Math.random() * Math.min(1000 * 2 ** this.failures, LONGEST_WAIT_MS);
      const wait = Math.max(1000 * hint, backoff);
      this.failures += 1;
      this.show.waiting(reason, wait);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  /** One connection; why it ended. */
  private follow(token: string): Promise<{ code: number; reason: string }> {
    const url = new URL(`${this.server}/ws/tracking/${this.booking}`);
    if (this.epoch !== null) {
      url.searchParams.set("epoch", this.epoch);
      url.searchParams.set("since_seq", String(this.seq));
    }
    this.asked = false;
    this.silenceMs = CONNECT_MS;
    return new Promise((resolve) => {
      const socket = new WebSocket(url, ["tracking.v1", `bearer.${token}`]);
      let silence: ReturnType<typeof setTimeout>;
      const end = (code: number, reason: string) => {
        clearTimeout(silence);
        socket.onmessage = socket.onclose = socket.onerror = null;
        socket.close(); // on a dead link it may take minutes: nobody waits for it
        resolve({ code, reason });
      };
      const heard = () => {
        clearTimeout(silence);
        silence = setTimeout(() => end(4408, "silent"), this.silenceMs);
      };
      socket.onmessage = (event) => {
        this.received(socket, JSON.parse(event.data as string) as Message);
        heard();
      };
      socket.onclose = (event) => end(event.code, event.reason);
      socket.onerror = () => {}; // a close event follows
      heard();
    });
  }

  private received(socket: WebSocket, message: Message): void {
    switch (message.type) {
      case "welcome":
        this.failures = 0;
        this.silenceMs = 2000 * message.heartbeat_s;
        if (message.recovered !== true) {
          this.seq = 0; // the whole route follows
          this.ahead.clear();
          this.show.reset();
        }
        this.epoch = message.epoch;
        break;
      case "location_update":
        this.add([message], message.seq - 1, message.seq);
        break;
      case "backfill":
        this.add(message.points, message.after_seq, message.through_seq);
        break;
      case "track_update":
        this.epoch = message.epoch;
        break;
      case "token_expiring":
        // Without a new token the server closes with 4401, and we come back with one.
        this.token().then((token) => this.say(socket, { type: "refresh", token }), () => {});
        break;
    }
    this.show.message(message);
    if (this.ahead.size > 0 && !this.asked) {
      this.asked = true;
      this.say(socket, { type: "catch_up", since_seq: this.seq });
    }
  }

  private say(socket: WebSocket, message: object): void {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  }

  /** Show what is new. All of the route above `after`, up to `through`, is among the points. */
  private add(points: Waypoint[], after: number, through: number): void {
    for (const point of points) {
      if (point.seq <= this.seq || this.ahead.has(point.seq)) continue;
      this.ahead.add(point.seq);
      this.show.waypoint(point);
    }
    if (after <= this.seq) {
      this.seq = Math.max(this.seq, through);
      this.asked = false;
    }
    while (this.ahead.has(this.seq + 1)) this.seq += 1;
    for (const seq of this.ahead) if (seq <= this.seq) this.ahead.delete(seq);
  }
}
