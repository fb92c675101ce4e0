// What the server says to its pages: a JSON object in the HTML's head.

export interface Config {
  /** Where somebody without a token is sent; gets `?return=` with the page's address. */
  loginUrl: string | null;
  mapStyleUrl: string | null;
  mapStyleUrlDark: string | null;
  /** GeoJSON of streets for the built-in style: the demo's. */
  mapStreetsUrl: string | null;
  /** Text beside the map, as the provider of an outside style asks for. */
  mapAttribution: string;
  /** The longest that a share link may be made to last. */
  shareMaxHours: number;
  /** There is a signed receipt of a trip that is over. */
  receipts: boolean;
  /** Who may embed the page, and give it a token. */
  embedOrigins: readonly string[];
}

const NONE: Config = {
  loginUrl: null, mapStyleUrl: null, mapStyleUrlDark: null, mapStreetsUrl: null,
  mapAttribution: "", shareMaxHours: 168, receipts: false, embedOrigins: [],
};

const written = document.querySelector<HTMLMetaElement>('meta[name="service-tracking"]')?.content;

export const config: Config = { ...NONE, ...(written ? (JSON.parse(written) as Config) : {}) };
