// Builds the pages into dist/: hashed names below assets/, one HTML file for each page.

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { defineConfig, type Plugin } from "vite";

const MAPLIBRE = resolve(import.meta.dirname, "node_modules/maplibre-gl/src");

/** MapLibre's worker as a chunk of ours, so that it shares code with the page; its dist does not. */
function maplibreWorker(): Plugin {
  let reference = "";
  return {
    name: "maplibre-worker",
    buildStart() {
      reference = this.emitFile({
        type: "chunk",
        id: `${MAPLIBRE}/source/worker.ts`,
        name: "maplibre-worker",
      });
    },
    resolveId: (id) => (id === "virtual:maplibre-worker" ? "\0maplibre-worker" : undefined),
    load: (id) =>
      id === "\0maplibre-worker" ? `export default import.meta.ROLLUP_FILE_URL_${reference}` : undefined,
  };
}

/** What the pages' HTML has in common, once: `head`, and a trip's body, of which a friend gets a part. */
function sharedHtml(): Plugin {
  const read = (name: string) => readFileSync(resolve(import.meta.dirname, `src/ui/${name}.html`), "utf8");
  const OWNERS = / *<!-- owner -->\n([^]*?) *<!-- \/owner -->\n/g;
  return {
    name: "shared-html",
    transformIndexHtml: {
      order: "pre",
      handler: (html) => html
        .replace(/ *<!-- head -->\n/, () => read("head"))
        .replace(/ *<!-- trip: (owner|friend) -->\n/, (_, who: string) =>
          read("trip").replace(OWNERS, who === "owner" ? "$1" : "")),
    },
  };
}

export default defineConfig({
  base: "/",
  // Without both, MapLibre's sources fail at run time: "Cannot set properties of undefined".
  oxc: {
    assumptions: { setPublicClassFields: true },
    typescript: { removeClassFieldsWithoutInitializer: true },
  },
  resolve: {
    alias: [
      { find: /^maplibre-gl$/, replacement: `${MAPLIBRE}/index.ts` },
      // A decoder of tiles that no style of ours has.
      { find: "@maplibre/mlt", replacement: resolve(import.meta.dirname, "src/map/no-mlt.ts") },
      {
        find: /^service-tracking-client$/,
        replacement: resolve(import.meta.dirname, "client/src/index.ts"),
      },
    ],
  },
  plugins: [maplibreWorker(), sharedHtml()],
  build: {
    target: "es2022",
    assetsDir: "assets",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 2000,
    rollupOptions: {
      input: { track: "track.html", shared: "shared.html", ops: "ops.html", "live-trip": "src/embed/live-trip.ts" },
      // Embedding pages name it: its address stays.
      output: {
        entryFileNames: ({ name }) =>
          name === "live-trip" ? "embed/live-trip.js" : "assets/[name]-[hash].js",
      },
      preserveEntrySignatures: "exports-only",
    },
  },
});
