// How long a scale bar is, and for how many metres. Pure.

import { type Camera, metresPerPixel } from "./mercator.ts";

export interface Scale {
  metres: number;
  /** Its length in CSS pixels. */
  length: number;
}

/**
 * The longest of 1, 2 and 5 times a power of ten that fits. Mercator stretches what lies nearer to
 * the poles: it is right for the latitude in the middle of the map.
 */
export function scaleOf(camera: Camera, longest: number): Scale {
  const perPixel = metresPerPixel(camera);
  const most = perPixel * longest;
  const power = 10 ** Math.floor(Math.log10(most));
  const step = [5, 2, 1].find((each) => each * power <= most * (1 + 1e-9)) ?? 1;
  const metres = step * power;
  return { metres, length: metres / perPixel };
}
