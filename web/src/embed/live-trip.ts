// <live-trip booking="…">: the owner's page in a frame of somebody else's. The only module that the
// embedding page loads; the trip's own code stays in the frame, under its own policy.
//
//   const trip = document.querySelector("live-trip");
//   trip.refresh = async (why) => (await fetch("/my/token")).text();   // or: trip.token = "…"

const SERVER = new URL(import.meta.url).origin;

export type Refresh = (why: "join" | "expiring" | "expired") => Promise<string> | string;

export class LiveTrip extends HTMLElement {
  static readonly observedAttributes = ["booking", "lang"];

  // Accessors, not fields: the page may have set them before this module was there.
  private ownToken: string | null = null;
  private ownRefresh: Refresh | null = null;
  private frame: HTMLIFrameElement | null = null;

  /** A token for the first join. Not an attribute: those are seen by everybody. */
  get token(): string | null {
    return this.ownToken;
  }

  set token(token: string | null) {
    this.ownToken = token;
  }

  /** Asked when there is no token, or it has run out, or is about to. */
  get refresh(): Refresh | null {
    return this.ownRefresh;
  }

  set refresh(refresh: Refresh | null) {
    this.ownRefresh = refresh;
  }

  connectedCallback(): void {
    this.adopt("token");
    this.adopt("refresh");
    window.addEventListener("message", this.hear);
    this.show();
  }

  /** A value that was set while this was an unknown element hides the accessor. */
  private adopt(name: "token" | "refresh"): void {
    if (!Object.hasOwn(this, name)) return;
    const value = this[name];
    delete (this as Partial<LiveTrip>)[name];
    this[name] = value as never;
  }

  disconnectedCallback(): void {
    window.removeEventListener("message", this.hear);
    this.frame?.remove();
    this.frame = null;
  }

  attributeChangedCallback(): void {
    if (this.isConnected) this.show();
  }

  private show(): void {
    const booking = this.getAttribute("booking");
    this.frame?.remove();
    this.frame = null;
    if (!booking) return;
    const url = new URL(`/track/${encodeURIComponent(booking)}`, SERVER);
    const language = this.getAttribute("lang");
    if (language) url.searchParams.set("lang", language);
    const frame = document.createElement("iframe");
    frame.title = this.title || "Live trip";
    frame.src = url.href;
    frame.referrerPolicy = "no-referrer";
    frame.allow = "clipboard-write";
    frame.style.cssText = "border:0;width:100%;height:100%;display:block";
    if (getComputedStyle(this).display === "inline") this.style.display = "block";
    this.frame = frame;
    this.append(frame);
  }

  /** Answers only its own frame, and only while that shows a page of the server. */
  private readonly hear = (event: MessageEvent): void => {
    const frame = this.frame?.contentWindow;
    if (event.source !== frame || !frame || event.origin !== SERVER) return;
    const { type, channel, why } = event.data as { type?: string; channel?: string; why?: never };
    if (type !== "live-trip.ask") return;
    void this.given(why ?? ("join" as never)).then((token) => {
      frame.postMessage({ type: "live-trip.token", channel, token }, SERVER);
    });
  };

  private async given(why: "join" | "expiring" | "expired"): Promise<string | null> {
    const kept = this.token;
    if (why === "join" && kept !== null) return kept;
    try {
      return this.refresh === null ? null : await this.refresh(why);
    } catch {
      return null; // the frame says that it has none
    }
  }
}

if (!customElements.get("live-trip")) customElements.define("live-trip", LiveTrip);
