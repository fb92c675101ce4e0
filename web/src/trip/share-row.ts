// One share link in the owner's dialog: until when, who looks, and what can be done about it.

import { config } from "../page/config.ts";
import { element, setText, show } from "../page/element.ts";
import * as words from "../page/words.ts";
import type { Share, ShareChanges } from "./api.ts";

const allowed = (hours: number): boolean => hours <= config.shareMaxHours;
/** How long a link may be made to last, in hours. */
export const HOURS = [1, 4, 24, 72, 168].filter(allowed);
const AFTER_END_HOURS = [0, 1, 6, 24, 72, 168].filter(allowed);

export interface RowEvents {
  /** True if it could be done. */
  changed(share: Share, changes: ShareChanges): Promise<boolean>;
  revoked(share: Share): Promise<boolean>;
  copied(share: Share): void;
}

/** Its nodes stay while the list is asked for again: nobody loses the place where he is. */
export class ShareRow {
  readonly node = element("li", { tabindex: "-1" });
  private readonly label = element("strong");
  private readonly viewers = element("span", { class: "viewers" });
  private readonly terms = element("p");
  private readonly copy = element("button", { type: "button" }, words.words.shareCopy);
  private readonly extend = element(
    "button", { type: "button", "aria-expanded": "false" }, words.words.shareExtend,
  );
  private readonly revoke = element(
    "button", { type: "button", class: "danger" }, words.words.shareRevoke,
  );
  private readonly expiry = element("select");
  private readonly afterEnd = element("select");
  private readonly form = element("form", { hidden: "" });

  constructor(private share: Share, private readonly told: RowEvents) {
    const text = words.words;
    const save = element("button", { type: "submit", class: "primary" }, text.save);
    this.form.append(
      element("label", {}, text.shareFor, this.expiry),
      element("label", {}, text.shareAfterEnd, this.afterEnd),
      save,
    );
    this.node.append(
      element("div", { class: "who" }, this.label, this.viewers),
      this.terms,
      element("div", { class: "actions" }, this.copy, this.extend, this.revoke),
      this.form,
    );
    this.copy.addEventListener("click", () => told.copied(this.share));
    this.extend.addEventListener("click", () => this.open(this.form.hidden !== false));
    this.revoke.addEventListener("click", () => void this.end());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.change();
    });
    this.form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault(); // the dialog stays
      this.open(false);
      this.extend.focus();
    });
  }

  update(share: Share, canCopy: boolean): void {
    this.share = share;
    const isOpen = share.status === "active" || share.status === "waiting";
    const isRevoked = share.status === "revoked";
    this.node.dataset["status"] = share.status;
    setText(this.label, nameOf(share));
    setText(this.viewers, words.words.shareViewers(share.viewers));
    show(this.viewers, share.viewers > 0);
    setText(this.terms, termsOf(share));
    for (const [button, word] of [[this.copy, words.words.shareCopy],
      [this.extend, words.words.shareExtend], [this.revoke, words.words.shareRevoke]] as const) {
      button.setAttribute("aria-label", `${word}: ${nameOf(share)}`);
    }
    show(this.copy, isOpen && canCopy);
    show(this.extend, !isRevoked);
    show(this.revoke, !isRevoked);
    if (isRevoked) this.open(false);
  }

  private open(isOpen: boolean): void {
    this.extend.setAttribute("aria-expanded", String(isOpen));
    show(this.form, isOpen);
    if (!isOpen) return;
    const text = words.words;
    const { share } = this;
    const isPast = Date.parse(share.expires_at) <= Date.now();
    options(this.expiry, [
      ...(isPast ? [] : [["", text.shareUnchanged(until(share))] as const]),
      ...HOURS.map((hours) => [String(hours), text.shareFromNow(hours)] as const),
    ]);
    const given = share.after_end_s / 3600;
    const hours = [...new Set([...AFTER_END_HOURS, given])].sort((a, b) => a - b);
    options(this.afterEnd, hours.map((each) => [String(each), text.shareAfter(each)] as const));
    this.afterEnd.value = String(given);
    this.expiry.focus();
  }

  private async change(): Promise<void> {
    const { value } = this.expiry;
    const done = await this.told.changed(this.share, {
      ...(value === "" ? {} : { expires_in_s: Number(value) * 3600 }),
      after_end_s: Math.round(Number(this.afterEnd.value) * 3600),
    });
    if (!done) return;
    this.open(false);
    this.extend.focus();
  }

  private async end(): Promise<void> {
    if (await this.told.revoked(this.share)) this.node.focus(); // its buttons are gone
  }
}

export const nameOf = (share: Share): string => share.label ?? share.id.slice(0, 8);

const until = (share: Share): string => words.dayAndTime(Date.parse(share.expires_at));

/** "until 26 Nov, 18:00 · opened 3 ×, last 26 Nov, 17:12" */
export function termsOf(share: Share): string {
  const text = words.words;
  const last = share.last_opened_at;
  const opens = text.shareOpens(share.opens, last && words.dayAndTime(Date.parse(last)));
  const state =
    share.status === "revoked" ? text.shareRevoked
    : share.status === "expired" || share.status === "ended" ? text.shareOver
    : `${text.shareUntil} ${until(share)}`;
  return `${state} · ${opens}`;
}

function options(select: HTMLSelectElement, choices: readonly (readonly [string, string])[]): void {
  select.replaceChildren(...choices.map(([value, text]) => element("option", { value }, text)));
}
