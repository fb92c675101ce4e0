// The discs of the operator's map and what gathers them. tests/test_ops_drawing.py runs it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { clustersOf } from "../src/ops/clusters.ts";
import { Discs, over, STEPS } from "../src/ops/discs.ts";

const [WIDTH, HEIGHT, RADIUS, CASING] = [60, 40, 7, 2];
const GREEN = 0xff629e2f; // #2f9e62, as little-endian bytes
const WHITE = 0xffffffff;

function picture(): Discs {
  return new Discs(WIDTH, HEIGHT, RADIUS);
}

function pixel({ pixels, stride, margin }: Discs, x: number, y: number): number {
  return pixels[(y + margin) * stride + x + margin]!;
}

/** How much is covered, and where its middle is. */
function weighed(discs: Discs): { area: number; x: number; y: number } {
  let [area, x, y] = [0, 0, 0];
  discs.pixels.forEach((each, index) => {
    const opacity = (each >>> 24) / 255;
    area += opacity;
    x += opacity * ((index % discs.stride) - discs.margin + 0.5);
    y += opacity * (Math.floor(index / discs.stride) - discs.margin + 0.5);
  });
  return { area, x: x / area, y: y / area };
}

/** By the definition, with fractions. */
function expected(above: number, below: number): number[] {
  const [upper, lower] = [(above >>> 24) / 255, ((below >>> 24) / 255) * (1 - (above >>> 24) / 255)];
  const both = upper + lower;
  const mixed = [0, 8, 16].map((shift) =>
    (((above >>> shift) & 255) * upper + ((below >>> shift) & 255) * lower) / both);
  return [...mixed, 255 * both];
}

test("a disc is where it was put, to a quarter of a pixel", () => {
  for (let x = 80; x < 80 + STEPS; x += 1) {
    for (let y = 60; y < 60 + STEPS; y += 1) {
      const discs = picture();
      discs.put(discs.disc("#2f9e62", "#ffffff", CASING), x, y);
      const found = weighed(discs);
      assert.ok(Math.abs(found.x - x / STEPS) < 0.02 && Math.abs(found.y - y / STEPS) < 0.02,
        JSON.stringify({ x: x / STEPS, y: y / STEPS, found }));
      assert.ok(Math.abs(found.area - Math.PI * RADIUS ** 2) < 1, String(found.area));
    }
  }
});

test("its colour is inside, its casing around it, nothing beyond", () => {
  const discs = picture();
  discs.put(discs.disc("#2f9e62", "#ffffff", CASING), 30 * STEPS, 20 * STEPS);
  assert.equal(pixel(discs, 30, 20), GREEN);
  assert.equal(pixel(discs, 30 + 3, 20), GREEN);
  assert.equal(pixel(discs, 30 + 5, 20), WHITE);
  assert.equal(pixel(discs, 30 + RADIUS + 1, 20), 0);
});

test("the later one covers the earlier, and neither leaves a hole", () => {
  const discs = picture();
  discs.put(discs.disc("#2f9e62", "#ffffff", CASING), 30 * STEPS, 20 * STEPS);
  discs.put(discs.disc("#cf3a30", "#ffffff", CASING), 36 * STEPS, 20 * STEPS);
  assert.equal(pixel(discs, 36, 20), 0xff303acf);
  for (let x = 25; x < 42; x += 1) assert.equal(pixel(discs, x, 20) >>> 24, 255, String(x));
});

test("at and beyond the border nothing wraps round and nothing fails", () => {
  const discs = picture();
  const disc = discs.disc("#2f9e62", "#ffffff", CASING);
  for (const far of [-1e9, -200, -RADIUS - 1, WIDTH + RADIUS + 1, WIDTH + 200, 1e9]) {
    discs.put(disc, far * STEPS, 20 * STEPS);
    discs.put(disc, 30 * STEPS, far * STEPS);
  }
  for (let x = 0; x < WIDTH; x += 1) {
    for (let y = 0; y < HEIGHT; y += 1) assert.equal(pixel(discs, x, y), 0);
  }
  discs.put(disc, 0, 0);
  assert.equal(pixel(discs, 0, 0), GREEN);
  assert.equal(pixel(discs, WIDTH - 1, 0), 0);
});

test("what lies over another mixes as it should", () => {
  const levels = [0, 1, 77, 128, 254, 255];
  for (const upper of levels) for (const lower of levels) {
    const [above, below] = [((upper << 24) | 0x12c8fe) >>> 0, ((lower << 24) | 0xf00a64) >>> 0];
    if (upper + lower === 0) continue;
    const mixed = over(above, below);
    expected(above, below).forEach((value, index) => {
      const off = Math.abs(((mixed >>> (8 * index)) & 255) - value);
      assert.ok(off <= 2, `${above.toString(16)} over ${below.toString(16)}: ${mixed.toString(16)}`);
    });
  }
});

test("clusters count all, stand in their middle and know how many are not well", () => {
  const near = [0, 1e-7, 2e-7].map((more) => ({ worldX: 0.8 + more, worldY: 0.5, isWell: more > 0 }));
  const far = { worldX: 0.3, worldY: 0.4, isWell: true };
  const found = clustersOf([...near, far], 10.9);
  assert.deepEqual(found.map(({ count, bad }) => [count, bad]), [[3, 1], [1, 0]]);
  assert.ok(Math.abs(found[0]!.worldX - 0.8 - 1e-7) < 1e-12);
});

test("clusters stay the same until the next whole zoom", () => {
  const members = Array.from({ length: 500 }, (_, index) => ({
    worldX: 0.8 + (index * 7919 % 500) * 1e-6, worldY: 0.5 + (index * 104729 % 500) * 1e-6, isWell: true }));
  const sizes = (zoom: number) => clustersOf(members, zoom).map(({ count }) => count);
  assert.deepEqual(sizes(11.01), sizes(11.99));
  assert.notDeepEqual(sizes(11.01), sizes(12.01));
});
