/// <reference types="vite/client" />

declare module "virtual:maplibre-worker" {
  const url: string;
  export default url;
}

interface Window {
  trustedTypes?: {
    createPolicy(name: string, rules: { createScriptURL(url: string): string }): unknown;
  };
}
