// Up to which seq everything is known, and what is known above a gap.

/** The bookkeeping of docs/protocol.md, "A gap in seq". */
export class Coverage {
  /** Everything up to here is known. */
  seq = 0;
  private readonly ahead = new Set<number>();
  private asked = false;

  /** Forget what is known: everything above `seq` will come. */
  reset(seq: number): void {
    this.seq = seq;
    this.ahead.clear();
    this.asked = false;
  }

  /**
   * Another numbering, without a new connection: its whole range follows by itself. What is known stays,
   * but below it there may be more.
   */
  renumber(known: Iterable<number>): void {
    this.seq = 0;
    this.ahead.clear();
    for (const seq of known) this.ahead.add(seq);
    this.asked = true;
  }

  /** A new connection: what was asked for on the old one is not answered any more. */
  reconnect(): void {
    this.asked = false;
  }

  get hasGap(): boolean {
    return this.ahead.size > 0;
  }

  has(seq: number): boolean {
    return seq <= this.seq || this.ahead.has(seq);
  }

  /**
   * All of the route above `after`, up to `through`, has come, and these are its numbers. The answer
   * to what was asked is complete unless `more` follows.
   */
  cover(seqs: Iterable<number>, after: number, through: number, more: boolean): void {
    for (const seq of seqs) if (seq > this.seq) this.ahead.add(seq);
    if (after <= this.seq) {
      this.seq = Math.max(this.seq, through);
      for (const seq of this.ahead) if (seq <= this.seq) this.ahead.delete(seq);
      if (!more) this.asked = false;
    }
    while (this.ahead.delete(this.seq + 1)) this.seq += 1;
  }

  /** True if `catch_up` should be sent now: it is once until it is answered. */
  ask(): boolean {
    if (this.asked) return false;
    this.asked = true;
    return true;
  }
}
