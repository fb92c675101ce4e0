// Cuts Natural Earth (public domain, from npm world-atlas) to what the built-in base map shows: the
// countries around Indonesia as they are at street zoom, the rest of the world coarsely.
// `node geo/cut.ts` writes src/map/generated/world.json.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { quantize } from "topojson-client";
import { filter, presimplify, simplify } from "topojson-simplify";

const HERE = import.meta.dirname;
const FOLDER = join(HERE, "../node_modules/world-atlas");
const OUT = join(HERE, "../src/map/generated");
// ISO 3166-1 numbers: where the company drives, and what lies around it.
const NEAR = new Set(
  ["360", "458", "702", "096", "626", "598", "608", "764", "704", "116", "418", "104"],
);
// Square degrees of a triangle that is left out.
const NEAR_DETAIL = 3e-5;
// Steps across the near countries: some 300 m.
const GRID = 2e4;

function read(name: string) {
  return JSON.parse(readFileSync(join(FOLDER, name), "utf8"));
}

function only(topology: ReturnType<typeof read>, wanted: (id: string) => boolean) {
  const { countries } = topology.objects;
  const geometries = countries.geometries.filter(({ id }: { id: string }) => wanted(id));
  return { ...topology, objects: { countries: { ...countries, geometries } } };
}

const near = only(read("countries-10m.json"), (id) => NEAR.has(id));
const far = only(read("countries-110m.json"), (id) => !NEAR.has(id));
const cut = {
  // `filter` drops the arcs that nothing uses any more.
  near: quantize(filter(simplify(presimplify(near), NEAR_DETAIL), () => true), GRID),
  far: filter(far, () => true),
};
mkdirSync(OUT, { recursive: true });
writeFileSync(join(OUT, "world.json"), JSON.stringify(cut));
