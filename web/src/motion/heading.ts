// Where the marker's nose points: along the path that it was seen to take, never what phones say.

import { type Path, type Place, arc, bearing, distance } from "./path.ts";

// Shorter, it would show the receiver's error.
const CHORD_M = 5;
// Slower, the receiver's error makes the direction.
const SLOWEST = 1.5; // m/s
const TURN = 360; // degrees a second
// To look back for how it came to where it stands.
const LOOKED_AT = 64;

/** Of the path that ends at this time; null where it stands, or where there is none. */
function along(path: Path, at: number, place: Place): number | null {
  const head = path.before(at);
  let [last, away] = [at, 0];
  for (let index = head; index >= 0 && path.fixes[index]!.at <= at; index -= 1) {
    const fix = path.fixes[index]!;
    if (index < head && path.isLeap(index)) return null;
    const further = distance(fix, place);
    if (further >= CHORD_M) {
      const chordAt = last - ((CHORD_M - away) / (further - away)) * (last - fix.at);
      const speed = (1000 * CHORD_M) / (at - chordAt);
      return speed < SLOWEST ? null : bearing(path.at(chordAt), place);
    }
    [last, away] = [fix.at, further];
  }
  return null;
}

export class Heading {
  private shown: number | null = null;
  /** It has not come round yet. */
  isTurning = false;

  /** The heading to show so long after the last one; null while it was never known. */
  turn(path: Path, at: number, place: Place, elapsed: number): number | null {
    const wanted = along(path, at, place) ?? this.shown ?? this.earlier(path, at);
    this.isTurning = false;
    if (wanted === null || this.shown === null) {
      this.shown = wanted;
      return wanted;
    }
    const left = arc(this.shown, wanted);
    const most = (TURN * elapsed) / 1000;
    this.isTurning = Math.abs(left) > most;
    this.shown = (this.shown + Math.min(Math.max(left, -most), most) + 360) % 360;
    return this.shown;
  }

  reset(): void {
    this.shown = null;
    this.isTurning = false;
  }

  private earlier(path: Path, at: number): number | null {
    const head = path.before(at);
    for (let index = head; index > Math.max(head - LOOKED_AT, 0); index -= 1) {
      const fix = path.fixes[index]!;
      const heading = fix.at <= at ? along(path, fix.at, fix) : null;
      if (heading !== null) return heading;
    }
    return null;
  }
}
