// The scale bar's length. tests/test_motion.py runs it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { metresBetween, Projection } from "../src/map/mercator.ts";
import { scaleOf } from "../src/map/scale.ts";

const LONGEST = 96;
const camera = (latitude: number, zoom: number) =>
  ({ longitude: 106.8, latitude, zoom, width: 800, height: 600 });

test("it is as long on the map as the globe says, at any latitude and zoom", () => {
  for (const latitude of [-60, -6.2, 0, 3.1, 51.5, 70]) {
    for (let zoom = 1; zoom <= 19; zoom += 0.7) {
      const seen = camera(latitude, zoom);
      const { metres, length } = scaleOf(seen, LONGEST);
      if (metres > 100_000) continue; // a parallel is no great circle
      const to = new Projection(seen);
      const [y, middle] = [to.y(latitude), to.x(seen.longitude)];
      const ends = [to.place(middle - length / 2, y), to.place(middle + length / 2, y)] as const;
      const truth = metresBetween(...ends);
      // The map's sphere has the equator's radius, the distances' the mean one: 0.11 %.
      assert.ok(Math.abs(truth / metres - 1) < 0.002, `${latitude}° at ${zoom}: ${truth}, ${metres}`);
    }
  }
});

test("it is round, fits, and is no shorter than it has to be", () => {
  for (let zoom = 0; zoom <= 19; zoom += 0.1) {
    const { metres, length } = scaleOf(camera(-6.2, zoom), LONGEST);
    assert.match(metres.toExponential(), /^[125]e/);
    assert.ok(length <= LONGEST + 1e-6);
    assert.ok(length > LONGEST / 2.5 - 1e-6);
  }
});

test("nearer to the pole the same metres are longer", () => {
  const [jakarta, oslo] = [scaleOf(camera(-6.2, 15), LONGEST), scaleOf(camera(59.9, 15), LONGEST)];
  assert.ok(oslo.length / oslo.metres > 1.9 * (jakarta.length / jakarta.metres));
});
